// On which processor requests are handled. Each test asks from a thread of its own, whose number is that of the caller.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <latch>
#include <map>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "src/lib/base/mutex.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/scheduling.h"
#include "src/lib/sys/shared_memory.h"
#include "tests/fake/fake_kernel.h"
#include "tests/unit/eventually.h"

namespace berth::fuse {
namespace {

using berth::testing::eventually;
using testing::Caller;
using testing::FakeMount;

constexpr NodeId kNode = make_node_id(NodeOwner::kNamespace, 7);

/// Notes how the thread that handles a look-up is scheduled. That of "wait" lasts until another name is looked up.
class Noting : public Operations {
 public:
  void lookup(Reply reply, NodeId, const char* name) override {
    const unsigned before = handled;
    while (std::string_view(name) == "wait" && handled == before)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    thread = ::gettid();
    is_beside = ::sched_getscheduler(0) == SCHED_IDLE;
    processor = ::sched_getcpu();
    ++handled;
    std::move(reply).error(ENOENT);
  }
  void forget(NodeId, std::uint64_t) noexcept override {}

  std::atomic<pid_t> thread{0};
  std::atomic<bool> is_beside{false};
  std::atomic<int> processor{-1};
  std::atomic<unsigned> handled{0};
};

class WorkersBeside : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!sys::may_pin_idle()) GTEST_SKIP() << "takes two processors, and CAP_SYS_NICE";
  }

  [[nodiscard]] static Caller self() { return {.pid = sys::own_id_in_proc()}; }
  /// Asks until it is answered by a thread beside the calling one, which must stay where it is.
  bool comes_beside(const Caller& caller) {
    return eventually([&] {
      for (int i = 0; i < 100; ++i) mount.kernel().lookup(kNode, "x", caller);
      return operations.is_beside && operations.processor == ::sched_getcpu();
    });
  }

  Noting operations;
  FakeMount mount{Router{operations, operations, operations}};
};

/// Keeps the calling thread on the processor that it is on.
void stay_here() {
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(static_cast<unsigned>(::sched_getcpu()), &here);
  ASSERT_EQ(::sched_setaffinity(0, sizeof here, &here), 0);
}

TEST_F(WorkersBeside, WhoAsksOftenIsServedOnHisProcessor) {
  std::thread([this] {
    stay_here();
    EXPECT_TRUE(comes_beside(self()));
  }).join();
}

TEST_F(WorkersBeside, CallerWhoComputesOnHisProcessorIsAnsweredAllTheSame) {
  std::thread([this] {
    stay_here();
    const Caller caller = self();
    ASSERT_TRUE(comes_beside(caller));
    const unsigned before = operations.handled;
    const std::uint64_t request = mount.kernel().send(FUSE_LOOKUP, kNode, std::string_view("x\0", 2), caller);
    // Without ever leaving the processor to the worker.
    const auto deadline = berth::testing::patience();
    while (operations.handled == before && std::chrono::steady_clock::now() < deadline) {
    }
    EXPECT_NE(operations.handled, before);
    EXPECT_EQ(mount.kernel().wait(request).error, ENOENT);
  }).join();
}

TEST_F(WorkersBeside, WhoHasNothingToDoIsScheduledAsAllAre) {
  std::thread([this] {
    stay_here();
    ASSERT_TRUE(comes_beside(self()));
  }).join();
  EXPECT_TRUE(eventually([this] { return ::sched_getscheduler(operations.thread) == SCHED_OTHER; }));
}

TEST_F(WorkersBeside, CallerOfAnotherPidNamespaceIsServedAnywhere) {
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(mount.kernel().lookup(kNode, "x", {.pid = 0}).error, ENOENT);
  EXPECT_FALSE(operations.is_beside);
}

TEST_F(WorkersBeside, RequestThatEndsOnlyWithAnotherGetsItLongAfter) {
  mount.kernel().lookup(kNode, "x", self());
  const std::uint64_t waits = mount.kernel().send(FUSE_LOOKUP, kNode, std::string_view("wait\0", 5), self());
  // Long enough for the monitor to see nothing to do any more.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(mount.kernel().lookup(kNode, "x", self()).error, ENOENT);
  EXPECT_EQ(mount.kernel().wait(waits).error, ENOENT);
}

TEST_F(WorkersBeside, StoppingEndsThemThere) {
  std::thread([this] {
    stay_here();
    ASSERT_TRUE(comes_beside(self()));
    mount.workers().stop();
    EXPECT_EQ(mount.join(), StopReason::kRequested);
  }).join();
}

/// Notes where the look-ups of each caller were handled. That of "hold" lasts until it is let go.
class NotingEach : public Operations {
 public:
  void lookup(Reply reply, NodeId, const char* name) override {
    if (std::string_view(name) == "hold") {
      holder = ::gettid();
      while (holds) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const bool is_beside = ::sched_getscheduler(0) == SCHED_IDLE;
    const int processor = is_beside ? ::sched_getcpu() : -1;
    {
      MutexLock lock(mutex);
      handled[reply.caller().pid].push_back(processor);
    }
    std::move(reply).error(ENOENT);
  }
  void forget(NodeId, std::uint64_t) noexcept override {}
  /// How many of a caller's look-ups were handled on the caller's CPU, and how many altogether, since the last call.
  std::pair<long, std::size_t> take_handled(const Caller& caller, int processor) {
    MutexLock lock(mutex);
    const std::vector<int> all = std::exchange(handled[caller.pid], {});
    return {std::count(all.begin(), all.end(), processor), all.size()};
  }

  std::atomic<bool> holds{true};
  std::atomic<pid_t> holder{0};
  Mutex mutex;
  std::map<pid_t, std::vector<int>> handled BERTH_GUARDED_BY(mutex);  ///< by caller: the processors; -1: not beside
};

/// A thread on a processor of its own, in whose name the test asks.
class Elsewhere {
 public:
  explicit Elsewhere(unsigned processor) : processor_(static_cast<int>(processor)) {
    thread_ = std::thread([this, processor] {
      cpu_set_t here;
      CPU_ZERO(&here);
      CPU_SET(processor, &here);
      ::sched_setaffinity(0, sizeof here, &here);
      caller_.pid = sys::own_id_in_proc();
      started_.count_down();
      end_.wait();
    });
    started_.wait();
  }
  ~Elsewhere() {
    end_.count_down();
    thread_.join();
  }
  Elsewhere(const Elsewhere&) = delete;
  Elsewhere& operator=(const Elsewhere&) = delete;
  [[nodiscard]] const Caller& caller() const noexcept { return caller_; }
  [[nodiscard]] int processor() const noexcept { return processor_; }

 private:
  const int processor_;
  Caller caller_;
  std::latch started_{1}, end_{1};
  std::thread thread_;
};

class WorkersOfTwoProcessors : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!sys::may_pin_idle()) GTEST_SKIP() << "takes two processors, and CAP_SYS_NICE";
  }
  /// Look-ups of both callers at once, all answered.
  void ask_both() {
    std::vector<std::uint64_t> requests;
    for (int i = 0; i < 100; ++i) {
      for (const Elsewhere* const from : {&first, &second}) {
        requests.push_back(mount.kernel().send(FUSE_LOOKUP, kNode, std::string_view("x\0", 2), from->caller()));
      }
    }
    for (const std::uint64_t request : requests) EXPECT_EQ(mount.kernel().wait(request).error, ENOENT);
  }
  /// Until some of each are handled by a worker on the caller's CPU.
  bool has_workers_beside_both() {
    return eventually([&] {
      ask_both();
      const auto [beside_first, of_first] = operations.take_handled(first.caller(), first.processor());
      const auto [beside_second, of_second] = operations.take_handled(second.caller(), second.processor());
      EXPECT_EQ(of_first, 100U);
      EXPECT_EQ(of_second, 100U);
      return beside_first > 0 && beside_second > 0;
    });
  }

  const Elsewhere first{0}, second{1};
  NotingEach operations;
  FakeMount mount{Router{operations, operations, operations}};
};

TEST_F(WorkersOfTwoProcessors, EachCallerIsServedWhereHeIs) { EXPECT_TRUE(has_workers_beside_both()); }

TEST_F(WorkersOfTwoProcessors, WhatIsForAWorkerThatIsStuckIsHandledByOthers) {
  ASSERT_TRUE(has_workers_beside_both());
  const std::uint64_t held = mount.kernel().send(FUSE_LOOKUP, kNode, std::string_view("hold\0", 5), second.caller());
  ASSERT_TRUE(eventually([this] { return operations.holder != 0; }));
  for (int i = 0; i < 20; ++i) ask_both();
  EXPECT_FALSE(mount.kernel().answered(held));
  operations.holds = false;
  EXPECT_EQ(mount.kernel().wait(held).error, ENOENT);
}

TEST_F(WorkersOfTwoProcessors, StoppingHandlesWhatHasBeenRead) {
  ASSERT_TRUE(has_workers_beside_both());
  std::vector<std::uint64_t> requests;
  for (int i = 0; i < 100; ++i) {
    const Elsewhere& from = i % 2 == 0 ? first : second;
    requests.push_back(mount.kernel().send(FUSE_LOOKUP, kNode, std::string_view("x\0", 2), from.caller()));
  }
  mount.workers().stop();
  EXPECT_EQ(mount.join(), StopReason::kRequested);
  // Each that was read was answered, and they are read in their order.
  bool was_read = true;
  for (const std::uint64_t request : requests) {
    const bool is_answered = mount.kernel().answered(request);
    EXPECT_TRUE(was_read || !is_answered) << "one before it was read and lost";
    was_read = is_answered;
  }
}

TEST(WorkersOfASuccessor, TakeBackWhatWasDoneForWhoWasKilledBeforeHeAskedAgain) {
  Result<sys::SharedMemory> memory = sys::SharedMemory::make("requests", sizeof(RequestArea));
  ASSERT_TRUE(memory);
  auto* const area = reinterpret_cast<RequestArea*>(memory->data());
  {
    Requests dead(area);
    RequestRecord* const record = dead.acquire();
    ASSERT_NE(record, nullptr);
    {
      const CurrentRequest current(record, 12, nullptr);
      CurrentRequest::note_look_up(kNode);
    }
    record->unique = 12;  // as a process that is killed leaves it
  }
  std::atomic<bool> is_awaited{true};
  std::atomic<int> taken_back{0};
  Requests requests(area, [&](std::uint64_t) { return is_awaited.load(); });
  requests.take_over([](std::uint64_t, std::uint64_t) { return true; },
                     [&](const Requests::Interrupted& what) { taken_back += static_cast<int>(what.counted.size()); });
  is_awaited = false;
  Noting operations;
  FakeMount mount{Router{operations, operations, operations}, {}, &requests};
  EXPECT_TRUE(eventually([&] {
    mount.kernel().lookup(kNode, "x");
    return taken_back == 1;
  }));
  EXPECT_FALSE(requests.has_interrupted());
}

}  // namespace
}  // namespace berth::fuse
