#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fuse/shares/share_fs.h"
#include "manager/model/native_access.h"
#include "src/daemon/native/native_channel.h"
#include "src/daemon/native/user_looks.h"
#include "src/lib/base/mutex.h"

namespace berth::daemon {

/// The server's side of native access: asks the agent, and ensures that no system call finds one of its two paths in
/// the proxy and the other in the real mount. While a share is not overmounted, callers that come in are sent back to
/// the share's name (fuse::StaleRetries). Callers that are served all the same have moved on before the overmount.
///
/// Threading: as manager::NativeAccess.
class NativeShares final : public manager::NativeAccess {
 public:
  struct Setup {
    const NativeChannel& agent;         ///< must outlive this object
    std::string directory;              ///< of the namespace
    std::uint64_t namespace_mount = 0;  ///< its id, mount_id_at()
    pid_t keeper = 0;                   ///< in the host's mount namespace, as /proc numbers it
  };
  explicit NativeShares(Setup setup) : setup_(std::move(setup)) {}

  /// Knows the threads that are in shares through berth. Must outlive the last call; without it no share is
  /// overmounted.
  void serve(fuse::ShareFs& shares) noexcept { shares_ = &shares; }
  /// Asks for the overmounts that an earlier server has left, and takes them over: the names of their shares.
  Result<std::vector<std::string>> take_over(TimePoint deadline);

  Result<std::uint64_t> overmount(manager::Share& share, int root, TimePoint deadline) override;
  Result<Outcome> remove_overmount(const manager::Share& share, When when, TimePoint deadline) override;
  Result<Users> count_users(const std::vector<std::uint64_t>& overmounts) override;
  Result<std::vector<std::string>> find_holders(const std::vector<Unmounted>& shares) override;
  /// What processes have in overmounts, for people to read. Takes a second at most.
  UserLooks::Found look_at_users(const std::vector<std::uint64_t>& overmounts);
  /// The keeper is gone, and NativeAgent::expect_no_other() was called: an overmount that no agent removes stays for
  /// the next start.
  void expect_no_agent() noexcept { is_last_agent_ = true; }
  /// The same of an overmount that take_over() has found and no share is configured for.
  Result<Outcome> remove_unknown_overmount(const std::string& name, When when, TimePoint deadline);

 private:
  /// `share`: null where none is configured under that name.
  Result<Outcome> remove_overmount_of(const std::string& name, const manager::Share* share, When when,
                                      TimePoint deadline);
  [[nodiscard]] NativeRequest request(NativeRequest::Kind kind, const std::string& share) const;
  using Seen = fuse::StaleRetries::Seen;
  [[nodiscard]] Result<std::vector<Seen>> still_in_call(const manager::Share& share, std::vector<Seen> threads,
                                                        bool (*may_be_in_call)(pid_t)) const;
  Result<> await_walkers(const manager::Share& share) const;
  Result<std::uint64_t> overmount_when_quiet(const manager::Share& share, int root, TimePoint deadline);
  [[nodiscard]] Result<bool> have_arrived(const manager::Share& share) const;
  void forget_arrived(const manager::Share& share) const;
  Result<> look_for_hidden(const manager::Share& share) const;
  Result<std::uint64_t> ask_to_overmount(const manager::Share& share, int root, TimePoint deadline);

  const Setup setup_;
  /// Whether a thread looks for holders, which may outlive this.
  const std::shared_ptr<std::atomic<bool>> holders_looks_ = std::make_shared<std::atomic<bool>>(false);
  UserLooks user_looks_;
  std::atomic<fuse::ShareFs*> shares_{nullptr};
  std::atomic<bool> is_last_agent_{false};

  Mutex mutex_;
  std::map<std::string, std::uint64_t> overmounts_ BERTH_GUARDED_BY(mutex_);  ///< ids of mounts, as in mountinfo
};

}  // namespace berth::daemon
