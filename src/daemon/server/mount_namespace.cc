#include "src/daemon/server/mount_namespace.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "manager/backends/attempt_namespace.h"
#include "manager/model/share_spec.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/namespaces.h"

namespace berth::daemon {
namespace {

/// Mountpoints are a few inodes each; beyond the most shares there can be nothing is made.
constexpr std::uint64_t kMaxBerthInodes = 4 * manager::kMaxShares;
constexpr const char* kBerthsSize = "64k";

/// What this namespace needs of the host's mounts, beside the system itself: sources are looked up on the host.
std::vector<std::string> needed_paths(const ServerSetup& setup) {
  std::vector<std::string> paths{setup.berth_directory};
  if (setup.state) paths.push_back(setup.state->path());
  for (const auto& [name, share] : setup.configuration.catalog.shares()) {
    const std::vector<std::string>& command = share.unmount_command();
    paths.insert(paths.end(), command.begin(), command.end());
  }
  return paths;
}

}  // namespace

Result<UniqueFd> enter_mount_namespace(ServerSetup& setup) {
  UniqueFd host = TRY(sys::current_mount_namespace());
  const int made = setup.record().mount_namespace;
  if (made >= 0) {
    if (::setns(made, CLONE_NEWNS) != 0) return fail(Error::last().within("cannot enter the servers' mount namespace"));
    ::setsid();
    return host;
  }
  TRY_VOID(sys::unshare_mount_namespace());
  // The copy of the namespace itself would keep the connection alive, and let the server walk into itself.
  if (!setup.mount.mounter && ::umount2(setup.directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
    return fail_errno();
  // A session of its own: the terminal's Ctrl-C goes to the keeper, which passes it on once. Not sooner, as in
  // Background::ready(); and not later, because what lies behind other automount points must be mounted for the
  // server.
  ::setsid();
  TRY_VOID(sys::mount_private_tmpfs(setup.berth_directory, kMaxBerthInodes, kBerthsSize));
  TRY_VOID(manager::detach_copies(needed_paths(setup)));
  // Only now: a successor finds it complete or not at all.
  UniqueFd mine = TRY(sys::current_mount_namespace());
  setup.record().mount_namespace = mine.release();
  return host;
}

}  // namespace berth::daemon
