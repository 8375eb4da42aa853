#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuse/root/namespace.h"
#include "fuse/session/session.h"
#include "manager/model/native_access.h"
#include "src/daemon/native/native_channel.h"
#include "src/daemon/native/walkers.h"
#include "src/lib/base/mutex.h"

namespace berth::daemon {

/// The server's side of native access: asks the agent, and sees to it that no system call finds one of its two paths in the
/// proxy and the other in the real mount.
///
/// First the kernel is to ask about the share's name at each walk (doubted), and everybody on this host is given time to move
/// on from the call that he is in, twice, for all shares of a batch together: who had an answer already that was to be
/// remembered may bring it to the kernel only then, which goes by it for a while, and whom it lets pass nobody knows. From
/// then on whoever passes the name is known. In the moment itself nobody passes it; the few who have passed since move on,
/// and if one who waits may be on his second walk, it was a bad moment, and the next attempt starts from here.
///
/// Threading: as manager::NativeAccess.
class NativeShares final : public manager::NativeAccess {
 public:
  struct Setup {
    const NativeChannel& agent;         ///< must outlive this object
    std::string directory;              ///< of the namespace
    std::uint64_t namespace_mount = 0;  ///< its id, mount_id_at()
  };
  explicit NativeShares(Setup setup) : setup_(std::move(setup)) {}

  /// What is to be waited for at. Both must outlive the last call; without them nothing is laid over.
  void serve(fuse::Namespace& names, fuse::Session& session) noexcept;
  /// Asks what lies over the namespace since an earlier server, and takes it for ours: the names.
  Result<std::vector<std::string>> adopt(TimePoint deadline);

  void begin_batch(const std::vector<const manager::Share*>& shares) override;
  void end_batch() override;
  Result<> lay_over(const manager::Share& share, int root, TimePoint deadline) override;
  Result<Outcome> take_off(const manager::Share& share, When when, TimePoint deadline) override;

 private:
  /// Names that are doubted since, and who may not have moved on yet.
  struct Approach {
    Walkers walkers;
    /// That the kernel may have been brought answers for since, which it remembers; empty: no more.
    std::vector<const manager::Share*> remembered = {};
  };

  [[nodiscard]] NativeRequest request(NativeRequest::Kind kind, const std::string& share) const;
  Result<> approach(const manager::Share& share);
  Result<> expire(const manager::Share& share);
  Result<> find_laid(const manager::Share& share, TimePoint deadline);
  Result<NativeTalk> ask_in_batch(const NativeRequest& request, const UniqueFd& mount);
  Result<> ask_to_lay(const manager::Share& share, int root, TimePoint deadline);
  Result<> switch_over(const manager::Share& share, const NativeTalk& talk, TimePoint deadline);

  const Setup setup_;
  fuse::Namespace* names_ = nullptr;
  fuse::Session* session_ = nullptr;
  std::optional<NativeChannel> batch_;  ///< of the batch that runs: to the process that serves all of it

  Mutex mutex_;
  std::map<std::string, std::uint64_t> laid_ BERTH_GUARDED_BY(mutex_);  ///< ids of mounts, as in mountinfo
  /// By name; shared by those that were doubted together, of which one at a time is laid over.
  std::map<std::string, std::shared_ptr<Approach>> approached_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::daemon
