#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuse/parked_reply.h"
#include "src/base/mutex.h"

namespace berth::fuse {

/// Look-ups of shares' names that are kept waiting while what the names lead to changes: while a real mount is laid over
/// a share's directory, whoever walks there comes either before that or after.
///
///   free ── doubt() ──▶ doubted: answered, but not to be remembered ── hold() ──▶ held ── release() ──▶ free
///
/// Threading: any thread may call anything; one at a time changes the state of one name.
class HeldNames {
 public:
  /// Look-ups are answered from now on so that each asks again.
  void doubt(const std::string& share);
  /// Look-ups wait.
  void hold(const std::string& share);
  /// Look-ups are free again. The result are those that waited, to be answered.
  [[nodiscard]] std::vector<Reply> release(const std::string& share);
  /// Who waits: threads in the host's pid namespace; 0 for one that cannot be seen from here.
  [[nodiscard]] std::vector<pid_t> waiting(const std::string& share) const;

  /// Whether the kernel may remember the answer to a look-up of `share`. Costs nothing while no name is doubted.
  [[nodiscard]] bool may_remember(const std::string& share) const;
  /// Takes a look-up of `share` if it has to wait; else it is still the caller's.
  [[nodiscard]] std::optional<Reply> pass_or_wait(const std::string& share, Reply reply);

 private:
  struct Waiting {
    pid_t thread;
    std::shared_ptr<ParkedReply> reply;
  };
  struct Name {
    bool held = false;
    std::vector<Waiting> waiting;
  };

  std::atomic<std::size_t> count_{0};  ///< of names_
  mutable Mutex mutex_;
  std::map<std::string, Name> names_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
