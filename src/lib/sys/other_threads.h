#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/lib/base/result.h"

/// Threads, of other processes mostly, looked at from outside (proc(5)). It takes root, and sees what /proc shows.
/// Looking at a thread waits while that thread is in a step of execve(2) that closes files (signal->exec_update_lock,
/// seen with Linux 6.18). So a thread that serves such a close must not look.
namespace berth::sys {

/// All threads of all processes but this one, kernel threads with them.
std::vector<pid_t> other_threads();

/// The number of the calling thread in /proc, which may be that of another pid namespace; 0 when it is not known.
pid_t own_id_in_proc();

/// What a thread does now.
struct ThreadActivity {
  enum class Kind : std::uint8_t {
    kRunning,  ///< on a CPU or ready for one, in the kernel or not
    kWaiting,  ///< in the kernel
    kGone,
  };
  Kind kind = Kind::kGone;
  long call = -1;  ///< kWaiting: the number of the system call that it is in; -1: none, or not readable (ptrace(2))
  std::array<std::uint64_t, 6> arguments{};  ///< of that call
  std::uint64_t stack_pointer = 0;           ///< in user space, at that call
  bool is_32_bit = false;                    ///< the thread of a 32-bit program, whose calls have numbers of their own
};
ThreadActivity activity_of(pid_t thread);

/// Where in the kernel a thread waits: a line "[<0>] FUNCTION+OFFSET/SIZE" for each function, the innermost first
/// (/proc/TID/stack).
/// Errors: EACCES without CAP_SYS_ADMIN in the first user namespace; ENOENT where the kernel does not tell
/// (CONFIG_STACKTRACE), or when the thread is gone.
Result<std::string> kernel_stack_of(pid_t thread);

/// Whether a signal is pending for a thread that will end it or run a handler in it. Not so of
/// - a thread that is only to stop for a while (SIGSTOP, ptrace(2), the freezer), or that is to do work of the
///   kernel's: its system call goes on afterwards;
/// - a handler of SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGPROF, SIGVTALRM or SIGIO: they tell of something, and on other
///   file systems no call on files ends for them.
/// True for a thread that is gone or cannot be seen, and for a worker of io_uring(7), which is cancelled without a
/// signal.
bool has_signal_to_handle(pid_t thread);

/// How long it has been on a CPU so far (/proc/TID/schedstat). Errors: ENOENT, ESRCH when it is gone; EBADMSG.
Result<std::chrono::nanoseconds> cpu_time_of(pid_t thread);

/// The processor that it is on, or was on last. Errors: ESRCH when it is gone.
Result<unsigned> processor_of(pid_t thread);

/// The status (wait(2)) with which a process has ended whose first thread is a zombie; nothing: it is none. While
/// another thread of it is stuck in the kernel, no process can wait for it.
std::optional<int> status_of_zombie(pid_t process);

/// Whether a thread of a process runs or waits for a processor.
bool has_running_thread(pid_t process);

/// Whether a process has no memory any more, which it gives back before it closes its files when it ends (exit(2)); so
/// has no thread of the kernel's own. Looking waits for nothing. False where it cannot be seen.
bool has_no_memory(pid_t process);

/// Whether a thread has been killed, though it may not have ended yet, or is gone. False for 0, a thread that cannot be
/// seen.
bool is_killed(pid_t thread);

/// Whether it is a thread of the kernel's own; one that is gone is none.
bool is_kernel_thread(pid_t thread);

}  // namespace berth::sys
