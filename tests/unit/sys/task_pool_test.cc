#include "src/lib/sys/task_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <future>
#include <latch>
#include <memory>
#include <string>

#include "tests/unit/eventually.h"

namespace berth::sys {
namespace {

using testing::eventually;

std::size_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

/// Makes pthread_create(3) fail for a scope: no address space holds such a stack.
class NoThreadsCanStart {
 public:
  NoThreadsCanStart() {
    ::pthread_getattr_default_np(&before_);
    pthread_attr_t impossible;
    ::pthread_attr_init(&impossible);
    ::pthread_attr_setstacksize(&impossible, std::size_t{1} << 60U);
    ::pthread_setattr_default_np(&impossible);
    ::pthread_attr_destroy(&impossible);
  }
  NoThreadsCanStart(const NoThreadsCanStart&) = delete;
  NoThreadsCanStart& operator=(const NoThreadsCanStart&) = delete;
  ~NoThreadsCanStart() {
    ::pthread_setattr_default_np(&before_);
    ::pthread_attr_destroy(&before_);
  }

 private:
  pthread_attr_t before_{};
};

TEST(TaskPool, StartsAThreadForEachBusyTaskUpToTheLimit) {
  TaskPool pool("test", 3);
  std::latch release(1);
  std::latch started(3);
  for (int i = 0; i < 5; ++i) {
    pool.submit([&, i] {
      if (i < 3) started.count_down();
      release.wait();
    });
  }
  started.wait();
  const TaskPool::Counts counts = pool.counts();
  EXPECT_EQ(counts.threads, 3U);
  EXPECT_EQ(counts.running, 3U);
  EXPECT_EQ(counts.queued, 2U);
  release.count_down();
  pool.drain();
  EXPECT_EQ(pool.counts().queued, 0U);
  EXPECT_EQ(pool.counts().running, 0U);
}

TEST(TaskPool, UsesAnIdleThreadAgain) {
  TaskPool pool("test", 8);
  for (int i = 0; i < 100; ++i) {
    pool.submit([] {});
    pool.drain();
  }
  EXPECT_EQ(pool.counts().threads, 1U);
}

TEST(TaskPool, GivesIdleThreadsBackButTheLast) {
  const std::size_t before = threads_of_this_process();
  TaskPool pool("test", 4, std::chrono::milliseconds(1));
  for (int round = 0; round < 20; ++round) {
    std::latch all(4);
    for (int i = 0; i < 4; ++i) {
      pool.submit([&all] { all.arrive_and_wait(); });
    }
    pool.drain();
    EXPECT_TRUE(eventually([&pool] { return pool.counts().threads == 1; }));
  }
  EXPECT_TRUE(eventually([before] { return threads_of_this_process() == before + 1; }));
}

TEST(TaskPool, LosesNoTaskToAThreadThatIsAboutToEnd) {
  TaskPool pool("test", 4, std::chrono::milliseconds(0));
  std::atomic<int> done = 0;
  for (int i = 0; i < 5000; ++i) pool.submit([&done] { ++done; });
  EXPECT_TRUE(eventually([&done] { return done == 5000; }));
}

TEST(TaskPool, RunsTheQueuedTasksBeforeItGoes) {
  std::atomic<int> done = 0;
  {
    TaskPool pool("test", 2);
    for (int i = 0; i < 200; ++i) pool.submit([&done] { ++done; });
  }
  EXPECT_EQ(done, 200);
}

TEST(TaskPool, TakesTasksFromTasks) {
  std::atomic<int> done = 0;
  {
    TaskPool pool("test", 1);
    pool.submit([&] {
      pool.submit([&done] { ++done; });
      ++done;
    });
    pool.drain();
    EXPECT_EQ(done, 2);
  }
}

TEST(TaskPool, DestroysATaskBeforeItCountsAsDone) {
  TaskPool pool("test", 1);
  const auto owned = std::make_shared<int>(1);
  pool.submit([owned] {});
  pool.drain();
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(TaskPool, ThreadsHaveANameAndBlockAllSignals) {
  TaskPool pool("berth-mounts", 1);
  std::string name;
  sigset_t blocked;
  ::sigemptyset(&blocked);
  pool.submit([&] {
    std::array<char, 16> buffer{};
    ::pthread_getname_np(::pthread_self(), buffer.data(), buffer.size());
    name = buffer.data();
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  });
  pool.drain();
  EXPECT_EQ(name, "berth-mounts");
  EXPECT_EQ(::sigismember(&blocked, SIGTERM), 1);
  EXPECT_EQ(::sigismember(&blocked, SIGCHLD), 1);
  sigset_t ours;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &ours);
  EXPECT_EQ(::sigismember(&ours, SIGTERM), 0) << "the submitting thread keeps its own mask";
}

TEST(TaskPool, WithoutAnyThreadTheCallerDoesTheWork) {
  TaskPool pool("test", 2);
  bool done = false;
  {
    const NoThreadsCanStart no_threads;
    pool.submit([&done] { done = true; });
  }
  EXPECT_TRUE(done);
  EXPECT_EQ(pool.counts().threads, 0U);
  std::latch later(1);
  pool.submit([&later] { later.count_down(); });
  later.wait();
}

TEST(TaskPool, AbandonLeavesStuckThreadsAndDropsTheQueue) {
  const std::size_t before = threads_of_this_process();
  const auto release = std::make_shared<std::latch>(1);
  const auto never_run = std::make_shared<int>(1);
  {
    std::latch started(1);
    TaskPool pool("test", 1);
    pool.submit([&started, release] {
      started.count_down();
      release->wait();
    });
    pool.submit([never_run] {});
    started.wait();
    pool.detach_threads();
  }
  EXPECT_EQ(never_run.use_count(), 1);
  EXPECT_EQ(threads_of_this_process(), before + 1) << "the stuck one";
  release->count_down();
  EXPECT_TRUE(eventually([before] { return threads_of_this_process() == before; }));
}

TEST(TaskPool, MayBeDestroyedByATaskOfItsOwn) {
  auto pool = std::make_shared<TaskPool>("test-own", 4);
  std::promise<void> go_on;
  std::promise<void> gone;
  // Another thread is there as well, and is waited for.
  pool->submit([] {});
  pool->submit([own = pool, may_go_on = go_on.get_future(), &gone]() mutable {
    may_go_on.wait();
    own.reset();
    gone.set_value();
  });
  pool.reset();
  go_on.set_value();
  gone.get_future().wait();
}

}  // namespace
}  // namespace berth::sys
