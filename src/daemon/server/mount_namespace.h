#pragma once

#include "src/daemon/server/server_setup.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// Enters the mount namespace of this namespace's servers; the first server makes it, with a tmpfs for the berths. From
/// then on the host does not see what the server mounts, and only servers reach it. Answers the host's mount namespace.
///
/// Threading: the process has one thread.
/// Errors: those of setns(2), unshare(2), umount2(2) and mount(2).
Result<UniqueFd> enter_mount_namespace(ServerSetup& setup);

}  // namespace berth::daemon
