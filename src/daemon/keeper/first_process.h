#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "src/daemon/common/kept_daemon.h"
#include "src/lib/base/result.h"

namespace berth::daemon {

/// Starts the first process of a pid namespace in which the servers and their helpers will live, so that helpers
/// outlive a server and nothing outlives the keeper: when this process ends the kernel kills all others in there
/// (pid_namespaces(7)).
///
/// It collects what is left to it, and ends some time after the keeper: as soon as the last server has ended, which
/// takes everything down in order when it sees the keeper go, or when that takes too long.
///
/// From here on every child of the caller is born in that pid namespace. Call it with one thread, while there is little
/// memory to copy. Errors: EPERM.
Result<pid_t> start_first_process(const KeptDaemon& record);

}  // namespace berth::daemon
