#pragma once

#include <sys/types.h>

#include <cstddef>

#include "src/lib/base/result.h"

/// How threads of this process are scheduled (sched(7)).
namespace berth::sys {

/// Whether pin_idle() works here and can be taken back: threads are scheduled normally (SCHED_OTHER), and the kernel lets
/// them return to that (CAP_SYS_NICE or RLIMIT_NICE, sched_setscheduler(2)). The first thread of the process must never run otherwise:
/// what is usual is what it has, which follows those who change it for all (cpuset(7), taskset(1)).
[[nodiscard]] bool may_pin_idle();

/// One more than the greatest number of a processor of this machine.
[[nodiscard]] std::size_t processor_numbers() noexcept;

/// From now on `thread` has one processor alone, and that only while nobody else wants it (SCHED_IDLE). So the kernel takes
/// the processor to be idle: who is woken by the thread stays there, and who wakes it as well.
/// Errors: EINVAL when that is none of our processors; ESRCH when the thread is gone. Then it is scheduled as usual.
Result<> pin_idle(pid_t thread, unsigned processor) noexcept;

/// `thread` (0: the calling one) is scheduled again as all are. Errors: ESRCH.
Result<> unpin(pid_t thread) noexcept;

}  // namespace berth::sys
