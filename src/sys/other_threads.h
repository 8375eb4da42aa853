#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include "src/base/result.h"

/// Threads of other processes, looked at from outside (proc(5)). It takes root, and sees what /proc shows.
namespace berth::sys {

/// All threads of all processes but this one, kernel threads with them.
std::vector<pid_t> other_threads();

/// What a thread does now.
struct ThreadActivity {
  enum class Kind : std::uint8_t {
    kRunning,  ///< on a CPU or ready for one, in the kernel or not
    kWaiting,  ///< in the kernel
    kGone,
  };
  Kind kind = Kind::kGone;
  long call = -1;  ///< kWaiting: the number of the system call that it is in; -1: none, or we may not know (ptrace(2))
};
ThreadActivity activity_of(pid_t thread);

/// How long it has been on a CPU so far (/proc/TID/schedstat). Errors: ENOENT, ESRCH when it is gone; EBADMSG.
Result<std::chrono::nanoseconds> cpu_time_of(pid_t thread);

/// Whether it is a thread of the kernel's own; one that is gone is none.
bool is_kernel_thread(pid_t thread);

}  // namespace berth::sys
