#include "src/lib/sys/process.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "src/lib/base/mutex.h"
#include "src/lib/base/relevant_line.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/identity.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/program_output.h"
#include "src/lib/sys/spawn_program.h"
#include "src/lib/sys/time_left.h"

namespace berth::sys {
namespace {

bool passed(TimePoint deadline) noexcept { return std::chrono::steady_clock::now() >= deadline; }

}  // namespace

std::string to_string(ExitStatus status) {
  if (status.signal == 0) return "exit status " + std::to_string(status.code);
  const char* const text = sigdescr_np(status.signal);
  return "signal " + std::to_string(status.signal) + (text != nullptr ? " (" + std::string(text) + ")" : "");
}

namespace {

/// Programs that not even SIGKILL has ended yet, by their pidfds; the next start of a program collects those that have.
struct GivenUp {
  Mutex mutex;
  std::vector<UniqueFd> programs BERTH_GUARDED_BY(mutex);
};

GivenUp& given_up() {
  // Never destroyed: a Process may be a static of another file.
  static auto* const the_programs = new GivenUp;
  return *the_programs;
}

void give_up(UniqueFd program) {
  GivenUp& all = given_up();
  const MutexLock lock(all.mutex);
  all.programs.push_back(std::move(program));
}

void collect_given_up() {
  std::vector<UniqueFd> programs;
  {
    GivenUp& all = given_up();
    const MutexLock lock(all.mutex);
    programs.swap(all.programs);
  }
  for (UniqueFd& program : programs) {
    siginfo_t ended{};
    const int rc =
        ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(program.get()), &ended, WEXITED | WNOHANG);
    if (rc == 0 && ended.si_pid == 0) give_up(std::move(program));
  }
}

}  // namespace

struct Process::State {
  explicit State(Spawned spawned)
      : pid(spawned.pid),
        pidfd(std::move(spawned.pidfd)),
        output(std::move(spawned.output), kOutputKept),
        // Less than all of it is not used; so what is kept of it is its beginning and end, as of other output.
        answer(std::move(spawned.answer), kLongestAnswer) {}

  pid_t pid;
  UniqueFd pidfd;
  ProgramOutput output;
  ProgramOutput answer;
  std::optional<ExitStatus> status;  ///< once collected

  enum class Awaited { kEnded, kDeadline, kCancelled };
  Awaited await(TimePoint deadline, int cancel_fd);
  ExitStatus collect() noexcept;
  void signal_group(int signal) const noexcept { ::kill(-pid, signal); }
};

/// Waits for the end of the program, keeping its pipe empty meanwhile.
Process::State::Awaited Process::State::await(TimePoint deadline, int cancel_fd) {
  for (;;) {
    std::array<pollfd, 4> watched{{
        {.fd = pidfd.get(), .events = POLLIN, .revents = 0},
        {.fd = output.pipe(), .events = POLLIN, .revents = 0},
        {.fd = cancel_fd, .events = POLLIN, .revents = 0},
        {.fd = answer.pipe(), .events = POLLIN, .revents = 0},
    }};
    const int ready = ::poll(watched.data(), watched.size(), poll_timeout(deadline));
    if (ready < 0 && errno != EINTR) return Awaited::kDeadline;
    if (ready > 0) {
      // The end of the program decides, not the end of its output: a daemon that it left behind may hold the pipe.
      if (watched[0].revents != 0) return Awaited::kEnded;
      if (watched[1].revents != 0) output.read_available();
      if (watched[3].revents != 0) answer.read_available();
      if (watched[2].revents != 0) return Awaited::kCancelled;
    }
    if (passed(deadline)) return Awaited::kDeadline;
  }
}

/// Collects the program, which has ended or is about to.
ExitStatus Process::State::collect() noexcept {
  siginfo_t ended{};
  int rc = 0;
  do {
    rc = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd.get()), &ended, WEXITED);
  } while (rc != 0 && errno == EINTR);
  // ECHILD: SIGCHLD is ignored, and so the kernel keeps no status. Better a failure than a wrong success.
  ExitStatus result{.code = 255};
  if (rc == 0 && ended.si_code == CLD_EXITED) result = {.code = ended.si_status};
  if (rc == 0 && ended.si_code != CLD_EXITED) result = {.signal = ended.si_status};
  status = result;
  return result;
}

Process::Process() noexcept = default;
Process::Process(Process&&) noexcept = default;

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    if (state_ && !state_->status) end(TimePoint::min());
    state_ = std::move(other.state_);
  }
  return *this;
}

Process::~Process() {
  if (state_ && !state_->status) end(TimePoint::min());
}

Result<Process> Process::start(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                               int group) {
  collect_given_up();
  Process process;
  process.state_ = std::make_unique<State>(TRY(spawn_program(argv, environment, {.group = group})));
  return process;
}

Result<Process> Process::start_question(const std::vector<std::string>& argv,
                                        const std::vector<std::string>& environment, int group) {
  collect_given_up();
  Process process;
  process.state_ = std::make_unique<State>(
      TRY(spawn_program(argv, environment, {.answers = true, .has_clean_environment = true, .group = group})));
  return process;
}

pid_t Process::pid() const noexcept { return state_->pid; }

pid_t Process::proc_number() const {
  const pid_t number = proc::process_of(pidfd());
  return number != 0 ? number : pid();
}
int Process::output_pipe() const noexcept { return state_->output.pipe(); }
int Process::pidfd() const noexcept { return state_->pidfd.get(); }

Result<ExitStatus> Process::wait(TimePoint deadline, int cancel_fd) {
  if (state_->status) return *state_->status;
  switch (state_->await(deadline, cancel_fd)) {
    case State::Awaited::kEnded:
      break;
    case State::Awaited::kDeadline:
      return fail(ETIMEDOUT);
    case State::Awaited::kCancelled:
      return fail(ECANCELED);
  }
  state_->output.read_available();
  return state_->collect();
}

std::string Process::output() {
  state_->output.read_available();
  return state_->output.text();
}

Result<std::string> Process::answer() {
  state_->answer.read_available();
  if (!state_->answer.is_whole())
    return fail(EMSGSIZE, "an answer of more than " + std::to_string(kLongestAnswer / 1024) + " KiB");
  return state_->answer.text();
}

UniqueFd Process::take_answer_pipe() noexcept { return state_->answer.take_pipe(); }

UniqueFd Process::take_output_pipe() noexcept { return state_->output.take_pipe(); }

void Process::give_output_to(std::function<void(std::string_view)> sink) { state_->output.give_to(std::move(sink)); }

ExitStatus Process::end(TimePoint grace_deadline, int hurry_fd) noexcept {
  if (state_->status) return *state_->status;
  const AsDaemon as_daemon;  // it may signal a program that changed its user
  // The number cannot be another process's: the program is not collected yet.
  if (!passed(grace_deadline)) {
    state_->signal_group(SIGTERM);
    state_->await(grace_deadline, hurry_fd);
  }
  state_->signal_group(SIGKILL);
  if (state_->await(std::chrono::steady_clock::now() + kKillPatience, -1) == State::Awaited::kEnded) {
    state_->output.read_available();
    return state_->collect();
  }
  state_->status = ExitStatus{.signal = SIGKILL};
  give_up(std::move(state_->pidfd));
  return *state_->status;
}

namespace {

Result<UniqueFd> open_pid(pid_t pid, unsigned flags) noexcept {
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, flags)));
  if (!process) return fail_errno();
  return process;
}

}  // namespace

Result<UniqueFd> open_process(pid_t pid) noexcept { return open_pid(pid, 0); }

Result<UniqueFd> open_thread(pid_t thread) noexcept {
  constexpr unsigned kThread = O_EXCL;  // PIDFD_THREAD, newer than Debian 12's headers
  return open_pid(thread, kThread);
}

Result<Finished> run(const std::vector<std::string>& argv, TimePoint deadline, int cancel_fd,
                     const std::vector<std::string>& environment, int group) {
  constexpr std::chrono::seconds kGrace{2};
  Process process = TRY(Process::start(argv, environment, group));
  const Result<ExitStatus> status = process.wait(deadline, cancel_fd);
  if (status) return Finished{.status = *status, .output = process.output()};
  process.end(std::chrono::steady_clock::now() + kGrace);
  std::string story = status.error().code() == ECANCELED ? "gave up " : "no end in time of ";
  story += quote_command(argv);
  if (const std::string output = process.output(); !output.empty())
    story += ", which said " + quote(relevant_line(output));
  return fail(status.error().code(), std::move(story));
}

}  // namespace berth::sys
