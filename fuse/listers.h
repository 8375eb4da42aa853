#pragma once

#include <sys/types.h>

#include <cstdint>
#include <unordered_map>
#include <unordered_set>

#include "src/base/mutex.h"

namespace berth::fuse {

/// Who has a directory of the namespace open, and so is listing shares. What he asks of each of thousands of them may be
/// answered shorter than what somebody asks of the one share that he is about to use.
///
/// Threads are named by their numbers on the host; 0, which is one that cannot be seen from here, is never listing.
///
/// Threading: any thread may call anything.
class Listers {
 public:
  /// `thread` has opened a directory that has this handle.
  void opened(std::uint64_t handle, pid_t thread);
  /// A handle that was never told is nobody's.
  void closed(std::uint64_t handle);
  [[nodiscard]] bool is_listing(pid_t thread) const;

 private:
  mutable Mutex mutex_;
  std::unordered_map<std::uint64_t, pid_t> openers_ BERTH_GUARDED_BY(mutex_);  ///< by handle
  std::unordered_multiset<pid_t> threads_ BERTH_GUARDED_BY(mutex_);            ///< one for each handle
};

}  // namespace berth::fuse
