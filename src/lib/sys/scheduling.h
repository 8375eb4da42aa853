#pragma once

#include <sys/types.h>

#include <cstddef>

#include "src/lib/base/result.h"

/// How threads of this process are scheduled (sched(7)).
namespace berth::sys {

/// Whether pin_idle() works here and can be taken back: threads are scheduled normally (SCHED_OTHER), and the kernel
/// lets them return to that (CAP_SYS_NICE or RLIMIT_NICE, sched_setscheduler(2)). The first thread of the process must
/// never be pinned: unpin() takes its CPUs as the usual ones, and so follows programs that change them for all threads
/// (cpuset(7), taskset(1)).
[[nodiscard]] bool may_pin_idle();

/// One more than the greatest number of a processor of this machine.
[[nodiscard]] std::size_t processor_numbers() noexcept;

/// From now on `thread` runs on one CPU alone, and only while no other thread needs that CPU (SCHED_IDLE). So the
/// kernel takes the CPU to be idle: a thread that `thread` wakes stays there, and so does a thread that wakes it.
/// Errors: EINVAL when that is none of this process's CPUs; ESRCH when the thread is gone. Then it is scheduled as
/// usual.
Result<> pin_idle(pid_t thread, unsigned cpu) noexcept;

/// `thread` (0: the calling one) is scheduled again as all are. Errors: ESRCH.
Result<> unpin(pid_t thread) noexcept;

}  // namespace berth::sys
