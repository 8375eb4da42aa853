#pragma once

#include "src/lib/base/result.h"

namespace berth::daemon {

/// Makes `berth serve` independent of what started it: descriptors, signals, umask, working directory, limits,
/// scheduling, the OOM killer's view (src/lib/sys/inherited.h). What berth could not work with and cannot change is an
/// error; what makes it slower is a warning in the log.
///
/// `executed`: in the place of a keeper, whose descriptors and blocked signals stay. Call it with one thread, before
/// anything is open. Errors: EPERM with a story that names what to change.
Result<> settle_surroundings(bool executed);

}  // namespace berth::daemon
