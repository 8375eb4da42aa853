#pragma once

#include <sys/types.h>

#include <unordered_set>

#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// Who has a directory of the namespace open, and so is listing shares. What he asks of each of thousands of them may be
/// answered shorter than what somebody asks of the one share that he is about to use.
///
/// Threads are named by their numbers on the host; 0, which is one that cannot be seen from here, is never listing.
///
/// Threading: any thread may call anything.
class Listers {
 public:
  /// `thread` has opened a directory.
  void opened(pid_t thread);
  /// What `thread` had opened is closed, by whomever.
  void closed(pid_t thread);
  [[nodiscard]] bool is_listing(pid_t thread) const;

 private:
  mutable Mutex mutex_;
  std::unordered_multiset<pid_t> threads_ BERTH_GUARDED_BY(mutex_);  ///< one for each directory that is open
};

}  // namespace berth::fuse
