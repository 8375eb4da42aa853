#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <string>

#include "tests/mount/berth_fixture.h"

namespace berth::test {

/// How a process is stopped and goes on.
enum class Stop : std::uint8_t { kSignal, kTerminal, kTracer };
inline constexpr Stop kStops[] = {Stop::kSignal, Stop::kTerminal, Stop::kTracer};

/// Signals that a program handles to be told of something.
inline constexpr int kSignalsThatOnlyTell[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGPROF, SIGVTALRM, SIGIO};

/// A process in one call, which it waits in and is stopped in.
class StoppedCaller {
 public:
  /// `call` answers an errno value.
  explicit StoppedCaller(const std::function<int()>& call) : child_(::fork()) {
    if (child_ != 0) return;
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    action.sa_flags = SA_RESTART;
    for (const int number : kSignalsThatOnlyTell) ::sigaction(number, &action, nullptr);
    ::_exit(call());
  }
  ~StoppedCaller() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  StoppedCaller(const StoppedCaller&) = delete;
  StoppedCaller& operator=(const StoppedCaller&) = delete;

  /// Waits until it waits for an answer of berth's, and stops it. It goes on waiting: the kernel has sent an interrupt,
  /// and waits without another one (request_wait_answer()).
  void stop(Stop how) {
    ASSERT_NO_FATAL_FAILURE(begin_stop(how));
    // Long enough for berth to answer it, if that is what berth does.
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(250);
    while (!has_stopped() && std::chrono::steady_clock::now() < until) ::usleep(10'000);
    EXPECT_FALSE(has_stopped()) << "it is to wait still";
  }
  /// The same where the call is answered and begins again afterwards.
  void stop_at_once(Stop how) {
    ASSERT_NO_FATAL_FAILURE(begin_stop(how));
    EXPECT_TRUE(eventually([this] { return has_stopped(); }));
  }
  void signal(int number) const { ::kill(child_, number); }
  /// Waits until it waits for an answer of berth's, and sends the signal. It goes on waiting.
  void signal_that_changes_nothing(int number) {
    ASSERT_TRUE(eventually([this] { return waits(); })) << "in " << wchan();
    signal(number);
    // Long enough for berth to answer it, if that is what berth does.
    ::usleep(250'000);
    EXPECT_TRUE(is_in("request_wait_answer")) << "in " << wchan();
  }
  /// When it has been answered it stops; lets it go on, and answers what the call did. Of a signal that ended it:
  /// -signal.
  int go_on() {
    int status = 0;
    if (::waitpid(child_, &status, WUNTRACED) != child_) return -1000;
    if (!WIFSTOPPED(status)) return end_of(status);
    if (how_ == Stop::kTracer) {
      EXPECT_EQ(::ptrace(PTRACE_DETACH, child_, nullptr, nullptr), 0);
    } else {
      signal(SIGCONT);
    }
    return end();
  }
  int end() {
    int status = 0;
    return ::waitpid(child_, &status, 0) == child_ ? end_of(status) : -1000;
  }

 private:
  /// Waits until it waits for an answer of berth's, and has it stopped.
  void begin_stop(Stop how) {
    ASSERT_TRUE(eventually([this] { return waits(); })) << "in " << wchan();
    how_ = how;
    if (how == Stop::kTracer) {
      ASSERT_EQ(::ptrace(PTRACE_SEIZE, child_, nullptr, nullptr), 0);
      ASSERT_EQ(::ptrace(PTRACE_INTERRUPT, child_, nullptr, nullptr), 0);
    } else {
      signal(how == Stop::kSignal ? SIGSTOP : SIGTSTP);
    }
    ASSERT_TRUE(eventually([this] { return state() != 'S'; }));
  }
  /// Whether it waits for an answer, and not for one on its way there that berth gives at once: it has not run for a
  /// while.
  [[nodiscard]] bool waits() const {
    if (state() != 'S' || !is_in("request_wait_answer")) return false;
    const std::string before = runs();
    ::usleep(50'000);
    return state() == 'S' && runs() == before;
  }
  [[nodiscard]] std::string line_of(const std::string& file) const {
    std::string line;
    std::getline(std::ifstream("/proc/" + std::to_string(child_) + "/" + file), line);
    return line;
  }
  [[nodiscard]] std::string runs() const { return line_of("schedstat"); }
  [[nodiscard]] std::string wchan() const { return line_of("wchan"); }
  [[nodiscard]] bool is_in(const std::string& function) const { return wchan().find(function) != std::string::npos; }
  [[nodiscard]] char state() const {
    const std::string line = line_of("stat");
    const std::size_t name_end = line.rfind(") ");
    return name_end != std::string::npos ? line[name_end + 2] : '?';
  }
  /// Or ended.
  [[nodiscard]] bool has_stopped() const { return std::string("TtZX?").find(state()) != std::string::npos; }
  int end_of(int status) {
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  pid_t child_;
  Stop how_ = Stop::kSignal;
};

}  // namespace berth::test
