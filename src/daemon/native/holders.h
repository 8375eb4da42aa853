#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "manager/model/native_access.h"
#include "src/lib/base/result.h"

namespace berth::daemon {

/// What keeps the file systems of shares that have been unmounted, in words; "" for a share of which nothing is seen
/// any more.
///
/// A real mount that lies over its share's directory is copied with a mount namespace (unshare(1) of any user), and
/// with a recursive bind; taking off ours does not take off those. They are looked for where the kernel shows them: in
/// the mount tables of all processes, one for each mount namespace. Where no table shows a file system that the kernel
/// has in use all the same (is_in_use()), a process holds it by a descriptor alone: a file that is open in a detached
/// mount, or a mount namespace that no process is in. Such a process is looked for in /proc/PID/{cwd,root,fd}.
///
/// `host`: a process in the host's mount namespace, where the namespace is mounted at `directory`. Takes some
/// milliseconds, a second at most.
Result<std::vector<std::string>> find_holders(pid_t host, const std::string& directory,
                                              const std::vector<manager::NativeAccess::Unmounted>& shares);

}  // namespace berth::daemon
