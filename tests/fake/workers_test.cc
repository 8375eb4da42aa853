// On which processor requests are handled. Each test asks from a thread of its own, whose number is that of the caller.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string_view>
#include <thread>

#include "src/sys/other_threads.h"
#include "src/sys/scheduling.h"
#include "src/sys/shared_memory.h"
#include "tests/fake/fake_kernel.h"
#include "tests/unit/eventually.h"

namespace berth::fuse {
namespace {

using berth::testing::eventually;
using testing::Caller;
using testing::FakeMount;

constexpr NodeId kNode = make_node_id(NodeOwner::kNamespace, 7);

/// Notes how the thread that handles a look-up is scheduled. That of "wait" lasts until somebody looks up another name.
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
    if (!sys::may_run_beside()) GTEST_SKIP() << "takes two processors, and CAP_SYS_NICE";
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
  // Long enough for the watch to see nothing to do any more.
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
  requests.recover([](std::uint64_t, std::uint64_t) { return true; },
                   [&](const Requests::Leftover& what) { taken_back += static_cast<int>(what.counted.size()); });
  is_awaited = false;
  Noting operations;
  FakeMount mount{Router{operations, operations, operations}, {}, &requests};
  EXPECT_TRUE(eventually([&] {
    mount.kernel().lookup(kNode, "x");
    return taken_back == 1;
  }));
  EXPECT_FALSE(requests.has_left());
}

}  // namespace
}  // namespace berth::fuse
