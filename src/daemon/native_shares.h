#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fuse/namespace.h"
#include "fuse/session.h"
#include "manager/native_access.h"
#include "src/base/mutex.h"
#include "src/daemon/native_channel.h"
#include "src/daemon/walkers.h"

namespace berth::daemon {

/// The server's side of native access: asks the agent, and sees to it that no system call finds one of its two paths in the
/// proxy and the other in the real mount.
///
/// First the kernel asks about the share's name at each walk (doubted), and everybody on this host is given time to move on
/// from the call that he is in. From then on whoever passes the name is known. In the moment itself nobody passes it; the
/// few who have passed since move on, and if one who waits may be on his second walk, it was a bad moment, and the next
/// attempt starts from here.
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

  Result<> lay_over(const manager::Share& share, int root, TimePoint deadline) override;
  Result<Outcome> take_off(const manager::Share& share, When when, TimePoint deadline) override;

 private:
  [[nodiscard]] NativeRequest request(NativeRequest::Kind kind, const std::string& share) const;
  Result<> approach(const manager::Share& share);
  Result<> expire(const manager::Share& share);
  Result<> ask_to_lay(const manager::Share& share, int root, TimePoint deadline);
  Result<> switch_over(const manager::Share& share, const NativeTalk& talk, TimePoint deadline);

  const Setup setup_;
  fuse::Namespace* names_ = nullptr;
  fuse::Session* session_ = nullptr;

  Mutex mutex_;
  std::map<std::string, std::uint64_t> laid_ BERTH_GUARDED_BY(mutex_);  ///< ids of mounts, as in mountinfo
  /// Of names that are doubted: who may not have moved on yet.
  std::map<std::string, Walkers> approached_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::daemon
