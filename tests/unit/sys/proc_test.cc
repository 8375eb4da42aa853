#include "src/lib/sys/proc.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace berth::sys::proc {
namespace {

/// A process that sleeps.
class Sleeper {
 public:
  Sleeper() : pid_(::fork()) {
    if (pid_ != 0) return;
    for (;;) ::pause();
  }
  ~Sleeper() {
    if (pid_ < 0) return;  // fork(2) failed, and -1 is every process
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  const pid_t pid_;
};

TEST(NumbersOfTest, AreThoseOfAFieldInTheirOrder) {
  EXPECT_EQ(numbers_of("4711\t2"), (std::vector<pid_t>{4711, 2}));
  EXPECT_EQ(numbers_of("7"), std::vector<pid_t>{7});
  EXPECT_TRUE(numbers_of("").empty());
}

TEST(HoldTest, ProcessThatIsHeldGetsTheSignal) {
  const Sleeper sleeper;
  const auto held = hold(sleeper.pid(), [](pid_t) { return true; });
  ASSERT_TRUE(held);
  EXPECT_EQ(held->pid, sleeper.pid());
  held->signal(SIGTERM);
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(sleeper.pid()), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(ended.si_code, CLD_KILLED);
  EXPECT_EQ(ended.si_status, SIGTERM);
}

TEST(HoldTest, ProcessThatIsAnotherOneMeanwhileIsNotHeld) {
  const Sleeper sleeper;
  int calls = 0;
  EXPECT_FALSE(hold(sleeper.pid(), [&calls](pid_t) { return calls++ == 0; }));
  EXPECT_EQ(calls, 2);
}

TEST(HoldTest, AllAreThoseThatAreAskedForButNotTheCallingOne) {
  const Sleeper sleeper;
  const auto held = hold_all([&](pid_t number) { return number == sleeper.pid() || number == own_process(); });
  ASSERT_EQ(held.size(), 1U);
  EXPECT_EQ(held.front().number, sleeper.pid());
}

TEST(HoldTest, NewestIsTheOneThatGotItsNumberLastAndNotTheCallingOne) {
  const Sleeper first;
  const Sleeper second;
  const auto held = hold_newest(
      [&](pid_t number) { return number == first.pid() || number == second.pid() || number == own_process(); });
  ASSERT_TRUE(held);
  EXPECT_EQ(held->number, second.pid());
  EXPECT_FALSE(hold_newest([](pid_t) { return false; }));
  EXPECT_EQ(parent_of(held->number), own_process());
  EXPECT_EQ(parent_of(1), 0);
}

/// A process in a pid namespace of its own does not hold a process of the one above, which has no number in it.
TEST(HoldTest, ProcessOfANamespaceAboveIsNotHeld) {
  const Sleeper sleeper;
  const pid_t maker = ::fork();
  ASSERT_GE(maker, 0);
  if (maker == 0) {
    if (::unshare(CLONE_NEWPID) != 0) ::_exit(2);
    const pid_t inside = ::fork();
    if (inside == 0) ::_exit(hold(sleeper.pid(), [](pid_t) { return true; }) ? 1 : 0);
    int status = 0;
    ::waitpid(inside, &status, 0);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(maker, &status, 0), maker);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) GTEST_SKIP() << "takes the right to make a pid namespace";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace berth::sys::proc
