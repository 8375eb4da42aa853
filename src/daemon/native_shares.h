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

namespace berth::daemon {

/// The server's side of native access: asks the agent, and keeps who comes by a share's name waiting while its mount is
/// laid over it.
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
  Result<> switch_over(const manager::Share& share, const NativeTalk& talk, TimePoint deadline);

  const Setup setup_;
  fuse::Namespace* names_ = nullptr;
  fuse::Session* session_ = nullptr;

  Mutex mutex_;
  std::map<std::string, std::uint64_t> laid_ BERTH_GUARDED_BY(mutex_);  ///< ids of mounts, as in mountinfo
};

}  // namespace berth::daemon
