#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "manager/model/native_access.h"
#include "src/lib/base/result.h"

namespace berth::daemon {

/// What keeps the file systems of shares that have been unmounted, in words; "" for a share of which nothing is seen any more.
///
/// A real mount that lies over its share's directory is copied with a mount namespace (unshare(1) of any user), and with a recursive
/// bind; taking off ours does not take off those. They are looked for where the kernel shows them: in the mount tables of all
/// processes, one for each mount namespace. What no process is in (a mount namespace or a mount that is held by a descriptor alone)
/// is not seen.
///
/// `host`: a process in the host's mount namespace, where the namespace is mounted at `directory`. Takes some milliseconds, a second
/// at most.
Result<std::vector<std::string>> find_holders(pid_t host, const std::string& directory,
                                              const std::vector<manager::NativeAccess::Unmounted>& shares);

}  // namespace berth::daemon
