#pragma once

#include <sys/types.h>

#include "src/base/result.h"

/// How threads of this process are scheduled (sched(7)).
namespace berth::sys {

/// Whether run_beside() works here and can be taken back: threads are scheduled normally (SCHED_OTHER), and the kernel lets
/// them return to that (CAP_SYS_NICE or RLIMIT_NICE, sched_setscheduler(2)). What is usual is noted when this is asked for the
/// first time, which must be before any thread runs otherwise.
[[nodiscard]] bool may_run_beside();

/// From now on `thread` has one processor alone, and that only while nobody else wants it (SCHED_IDLE). So the kernel takes
/// the processor to be idle: who is woken by the thread stays there, and who wakes it as well.
/// Errors: EINVAL when that is none of our processors; ESRCH when the thread is gone.
Result<> run_beside(pid_t thread, unsigned processor) noexcept;

/// `thread` (0: the calling one) is scheduled again as all are. Errors: ESRCH.
Result<> run_as_usual(pid_t thread) noexcept;

}  // namespace berth::sys
