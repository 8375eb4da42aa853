#include "src/lib/sys/other_threads.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "tests/unit/eventually.h"

namespace berth::sys {
namespace {

using Kind = ThreadActivity::Kind;

/// A process that does one thing until it is killed.
class Doing {
 public:
  explicit Doing(const std::function<void()>& what) : pid_(::fork()) {
    if (pid_ != 0) return;
    for (;;) what();
  }
  ~Doing() { end(); }
  Doing(const Doing&) = delete;
  Doing& operator=(const Doing&) = delete;
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  pid_t pid_;
};

TEST(OtherThreads, OneThatWaitsIsInItsSystemCall) {
  constexpr std::uint64_t kSeventeen = 17;
  Doing waiting([] {
    std::array<int, 2> ends{};
    const pollfd polled{.fd = ::pipe2(ends.data(), O_CLOEXEC) == 0 ? ends[0] : -1, .events = POLLIN, .revents = 0};
    std::array<pollfd, kSeventeen> all{};
    all.fill(polled);
    ::syscall(SYS_ppoll, all.data(), kSeventeen, nullptr, nullptr, 0);
  });
  const pid_t pid = waiting.pid();
  EXPECT_TRUE(testing::eventually([&] {
    const ThreadActivity activity = activity_of(pid);
    return activity.kind == Kind::kWaiting && activity.call == SYS_ppoll && activity.arguments[1] == kSeventeen;
  }));
  const std::vector<pid_t> all = other_threads();
  EXPECT_NE(std::find(all.begin(), all.end(), pid), all.end());
  EXPECT_EQ(std::find(all.begin(), all.end(), ::getpid()), all.end()) << "others";
  waiting.end();
  EXPECT_EQ(activity_of(pid).kind, Kind::kGone);
  EXPECT_FALSE(cpu_time_of(pid));
}

TEST(OtherThreads, OneThatWaitsShowsWhereInTheKernel) {
  const Doing waiting([] { ::pause(); });
  if (::access("/proc/self/stack", R_OK) != 0 || ::geteuid() != 0)
    GTEST_SKIP() << "the kernel tells this to root alone, or not at all";
  EXPECT_TRUE(testing::eventually([&] {
    const Result<std::string> stack = kernel_stack_of(waiting.pid());
    return stack && stack->find("sys_pause+0x") != std::string::npos;
  }));
}

TEST(OtherThreads, OneThatWorksIsFoundAmongThoseThatWait) {
  Doing waiting([] { ::pause(); });
  EXPECT_TRUE(testing::eventually([&] { return !has_running_thread(waiting.pid()); }));
  volatile int sum = 0;
  const Doing working([&] {
    std::thread worker([&] {
      for (;;) sum = sum + 1;
    });
    ::pause();
  });
  EXPECT_TRUE(testing::eventually(
      [&] { return activity_of(working.pid()).kind == Kind::kWaiting && has_running_thread(working.pid()); }));
  const pid_t ended = waiting.pid();
  waiting.end();
  EXPECT_FALSE(has_running_thread(ended));
}

TEST(OtherThreads, OneThatIsGoneCountsAsKilled) {
  Doing waiting([] { ::pause(); });
  const pid_t pid = waiting.pid();
  EXPECT_FALSE(is_killed(pid));
  EXPECT_FALSE(is_killed(0)) << "one that cannot be seen";
  waiting.end();
  EXPECT_TRUE(is_killed(pid));
}

TEST(OtherThreads, OneThatWorksUsesItsTime) {
  volatile int sum = 0;
  const Doing working([&] { sum = sum + 1; });
  const Result<std::chrono::nanoseconds> before = cpu_time_of(working.pid());
  if (!before) GTEST_SKIP() << "this kernel tells no CPU times (CONFIG_SCHED_INFO)";
  EXPECT_EQ(activity_of(working.pid()).kind, Kind::kRunning);
  EXPECT_TRUE(
      testing::eventually([&] { return *cpu_time_of(working.pid()) - *before > std::chrono::milliseconds(2); }));
  EXPECT_FALSE(is_kernel_thread(working.pid()));
}

}  // namespace
}  // namespace berth::sys
