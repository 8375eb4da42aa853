#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// How a program ended.
struct ExitStatus {
  int code = 0;    ///< exit status, when signal is 0
  int signal = 0;  ///< the signal that ended it, or 0
  [[nodiscard]] bool success() const noexcept { return code == 0 && signal == 0; }
};
/// "exit status 32", "signal 9 (Killed)".
std::string to_string(ExitStatus status);

/// A running program that this process started.
///
/// Started with an argv, without a shell. Between clone(2) and execve(2) nothing but system calls is made
/// (spawn_program.cc). Its standard input is /dev/null, standard output and error go to one pipe of which at most
/// `kOutputKept` bytes are kept, the first and the last; it gets no other descriptor, default signal dispositions, an
/// empty signal mask, a session of its own and, some microseconds after its start, a limit of 1024 open files that it
/// may raise. It is started as the daemon, whatever identity the calling thread has (identity.h).
///
/// Its output is read by wait(), output() and end(): a program that serves for long and writes on meanwhile needs a
/// thread that waits for it, or it stands still when the pipe is full.
///
/// Ownership: the destructor kills and collects a program that still runs.
/// Threading: one thread at a time.
class Process {
 public:
  /// Most bytes of output that are remembered of a program.
  static constexpr std::size_t kOutputKept = std::size_t{16} << 10;

  /// Starts argv[0], looked up in a fixed PATH ("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") when it
  /// has no '/'. The program gets umask 022 and this process's environment with LC_ALL=C and PATH as above, less what
  /// systemd meant for this process alone (NOTIFY_SOCKET, WATCHDOG_*, LISTEN_*). HOME is the daemon's user's where
  /// there is none. `environment`: more, as "NAME=value", which stand above all of these.
  /// `group`: the control group that it begins in, where the kernel lets it (control_group.h); -1: this process's own.
  /// Errors: ENOENT with a story that names the program, EACCES, ENOMEM.
  static Result<Process> start(const std::vector<std::string>& argv, const std::vector<std::string>& environment = {},
                               int group = -1);

  /// Starts a program that answers a question: its standard output is kept apart (answer()), and of this process's
  /// environment it gets nothing but HOME. Errors: as start().
  static Result<Process> start_question(const std::vector<std::string>& argv,
                                        const std::vector<std::string>& environment = {}, int group = -1);
  /// Most bytes of an answer.
  static constexpr std::size_t kLongestAnswer = std::size_t{64} << 10;

  Process(Process&&) noexcept;
  Process& operator=(Process&&) noexcept;
  ~Process();

  [[nodiscard]] pid_t pid() const noexcept;
  /// Its number in /proc, which may be that of another pid namespace; pid() where that is not known.
  [[nodiscard]] pid_t proc_number() const;
  /// Readable when the program has ended (pidfd_open(2)).
  [[nodiscard]] int pidfd() const noexcept;

  /// The reading end of its output; -1 when no process can write any more.
  [[nodiscard]] int output_pipe() const noexcept;

  /// Waits until it has ended, reading its output. Gives up at `deadline` (ETIMEDOUT) or when `cancel_fd` becomes
  /// readable (ECANCELED; -1: never); the program then still runs.
  Result<ExitStatus> wait(TimePoint deadline, int cancel_fd = -1);

  /// What it wrote so far (reads what is there now, does not block).
  std::string output();
  /// What a program of start_question() wrote to its standard output so far; output() is then its standard error alone.
  /// Errors: EMSGSIZE when that is more than kLongestAnswer.
  Result<std::string> answer();
  /// The reading end, non-blocking, of what a program of start_question() writes to its standard output: for a reader
  /// of a longer conversation, instead of answer(). Once.
  UniqueFd take_answer_pipe() noexcept;
  /// Of a program that has ended: where a daemon that it left may write on; non-blocking. Empty: none can.
  UniqueFd take_output_pipe() noexcept;
  /// From here on what it writes is not kept, but shown to `sink` by whichever function reads it.
  void give_output_to(std::function<void(std::string_view)> sink);

  /// SIGTERM to its process group, SIGKILL to what is left of it at `grace_deadline`, when `hurry_fd` is readable (-1:
  /// never) or when the program itself has ended; collects it. A program that even SIGKILL does not end within
  /// kKillPatience (it is stuck in the kernel) is collected by a later start() and counts as ended by signal 9.
  ExitStatus end(TimePoint grace_deadline, int hurry_fd = -1) noexcept;
  static constexpr std::chrono::seconds kKillPatience{5};

 private:
  Process() noexcept;
  struct State;
  std::unique_ptr<State> state_;
};

/// What a program that ran to its end left.
struct Finished {
  ExitStatus status;
  std::string output;
};

/// Runs a program to its end. At the deadline, or when cancelled, it is ended (TERM, then KILL two seconds later).
/// `group`: as in Process::start().
/// Errors: as Process::start; ETIMEDOUT, ECANCELED with the program's last output in the story.
Result<Finished> run(const std::vector<std::string>& argv, TimePoint deadline, int cancel_fd = -1,
                     const std::vector<std::string>& environment = {}, int group = -1);

/// A pidfd of any process (pidfd_open(2)): readable when it has ended. Errors: ESRCH.
Result<UniqueFd> open_process(pid_t pid) noexcept;
/// A pidfd of a thread that is not the first of its process: readable when that thread has ended. Errors: ESRCH; EINVAL
/// before Linux 6.9.
Result<UniqueFd> open_thread(pid_t thread) noexcept;

/// The absolute path of `program` in the fixed PATH of Process::start, or "".
std::string find_program(std::string_view program);

}  // namespace berth::sys
