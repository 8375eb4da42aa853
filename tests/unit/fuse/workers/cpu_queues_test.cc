#include "fuse/workers/cpu_queues.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "fuse/callers/caller_cpus.h"

namespace berth::fuse {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class CpuQueuesTest : public ::testing::Test {
 protected:
  QueuedRequest queued(std::uint64_t unique, TimePoint sent = {}) {
    protocol::Message message;
    message.header.unique = unique;
    return {.buffer = ReadBuffer::make(requests_, 65536), .message = message, .sent = sent};
  }
  bool push(unsigned cpu, std::uint64_t unique, TimePoint sent = {}) {
    QueuedRequest to_send = queued(unique, sent);
    const bool sent_it = queues_.push(cpu, to_send);
    EXPECT_EQ(to_send.buffer == nullptr, sent_it) << "what is not sent stays with its sender";
    return sent_it;
  }
  /// The number of the next; 0: none.
  std::uint64_t pop(std::optional<unsigned> cpu) {
    const std::optional<QueuedRequest> received = queues_.pop(cpu);
    return received ? received->message.header.unique : 0;
  }

  Requests requests_{nullptr};
  CpuQueues queues_{4};
};

TEST_F(CpuQueuesTest, OneWorkerHasAPost) {
  EXPECT_TRUE(queues_.claim(1));
  EXPECT_FALSE(queues_.claim(1));
  EXPECT_FALSE(queues_.claim(4)) << "there is no such cpu";
  EXPECT_EQ(queues_.claimed_count(), 1U);
  queues_.leave(1);
  queues_.leave(1);
  EXPECT_EQ(queues_.claimed_count(), 0U);
  EXPECT_TRUE(queues_.claim(1));
}

TEST_F(CpuQueuesTest, ClosedOneIsNotTaken) {
  queues_.close_until(1, std::chrono::steady_clock::now() + std::chrono::hours(1));
  EXPECT_FALSE(queues_.claim(1));
  queues_.close_until(1, std::chrono::steady_clock::now());
  EXPECT_TRUE(queues_.claim(1));
}

TEST_F(CpuQueuesTest, MailComesInItsOrderToWhomItWasSent) {
  EXPECT_FALSE(push(1, 10)) << "no worker is there";
  ASSERT_TRUE(queues_.claim(1));
  ASSERT_TRUE(queues_.claim(2));
  EXPECT_TRUE(push(1, 11));
  EXPECT_TRUE(push(1, 12));
  EXPECT_TRUE(queues_.has_queued(1));
  EXPECT_FALSE(queues_.has_queued(2));
  EXPECT_EQ(pop(2), 0U);
  EXPECT_EQ(pop(1), 11U);
  EXPECT_EQ(pop(1), 12U);
  EXPECT_EQ(pop(1), 0U);
  EXPECT_FALSE(queues_.has_queued());
}

TEST_F(CpuQueuesTest, WorkerDoesNotGoToSleepOverWhatWasSentToIt) {
  ASSERT_TRUE(queues_.claim(1));
  EXPECT_TRUE(push(1, 11));
  EXPECT_FALSE(queues_.try_sleep(1));
  EXPECT_EQ(pop(1), 11U);
  EXPECT_TRUE(queues_.try_sleep(1));
}

TEST_F(CpuQueuesTest, NothingIsSentToASleepingWorkerAndNoMoreThanFits) {
  ASSERT_TRUE(queues_.claim(1));
  ASSERT_TRUE(queues_.try_sleep(1));
  EXPECT_FALSE(push(1, 1));
  queues_.wake(1);
  std::size_t sent = 0;
  while (sent < 1000 && push(1, sent + 1)) ++sent;
  EXPECT_GT(sent, 0U);
  EXPECT_LT(sent, 1000U);
  for (std::size_t i = 1; i <= sent; ++i) EXPECT_EQ(pop(1), i);
}

TEST_F(CpuQueuesTest, WhatIsLeftBehindIsForAnybody) {
  ASSERT_TRUE(queues_.claim(1));
  EXPECT_TRUE(push(1, 11));
  EXPECT_TRUE(push(1, 12));
  queues_.leave(1);
  EXPECT_TRUE(queues_.has_orphaned());
  EXPECT_TRUE(queues_.has_queued());
  ASSERT_TRUE(queues_.claim(2));
  EXPECT_EQ(pop(2), 11U);
  EXPECT_EQ(pop(std::nullopt), 12U);
  EXPECT_FALSE(queues_.has_orphaned());
  EXPECT_FALSE(queues_.has_queued());
}

TEST_F(CpuQueuesTest, LateMailIsTakenByWhoHasNothingToDo) {
  const TimePoint now = std::chrono::steady_clock::now();
  ASSERT_TRUE(queues_.claim(1));
  EXPECT_TRUE(push(1, 11, now - milliseconds(2)));
  EXPECT_FALSE(queues_.steal_late(now, milliseconds(3)));
  const std::optional<QueuedRequest> late = queues_.steal_late(now, milliseconds(1));
  ASSERT_TRUE(late);
  EXPECT_EQ(late->message.header.unique, 11U);
  EXPECT_FALSE(queues_.has_queued());
}

TEST_F(CpuQueuesTest, LateMailIsLetGoOf) {
  const TimePoint now = std::chrono::steady_clock::now();
  ASSERT_TRUE(queues_.claim(1));
  EXPECT_TRUE(push(1, 11, now - milliseconds(2)));
  queues_.orphan_late(now, milliseconds(3));
  EXPECT_FALSE(queues_.has_orphaned());
  queues_.orphan_late(now, milliseconds(1));
  EXPECT_EQ(pop(std::nullopt), 11U);
}

/// Senders find a worker on the CPU and put a request into its queue, or find none: in each case some worker gets the
/// request.
TEST_F(CpuQueuesTest, NothingIsLostWhileWorkersComeAndGo) {
  constexpr std::size_t kTurns = 20'000;
  constexpr std::size_t kSent = 1'000;
  std::atomic<bool> ends{false};
  std::atomic<std::size_t> sent{0};
  std::thread sender([&] {
    while (!ends) {
      QueuedRequest queued{.buffer = nullptr, .message = {}, .sent = {}};
      queued.message.header.unique = 1;
      if (queues_.push(1, queued)) ++sent;
    }
  });
  std::size_t received = 0;
  for (std::size_t i = 0; i < kTurns || sent < kSent; ++i) {
    ASSERT_TRUE(queues_.claim(1));
    received += pop(1);
    queues_.leave(1);
    ASSERT_FALSE(queues_.has_queued(1)) << "in a queue that no worker has claimed";
    while (const std::size_t orphaned = pop(std::nullopt)) received += orphaned;
  }
  ends = true;
  sender.join();
  while (const std::size_t orphaned = pop(std::nullopt)) received += orphaned;
  EXPECT_EQ(received, sent);
  EXPECT_FALSE(queues_.has_queued());
}

TEST_F(CpuQueuesTest, SpareBuffersAreUsedAgain) {
  EXPECT_EQ(queues_.take_buffer(), nullptr);
  std::unique_ptr<ReadBuffer> buffer = ReadBuffer::make(requests_, 65536);
  const ReadBuffer* const same = buffer.get();
  queues_.add_buffer(std::move(buffer));
  EXPECT_EQ(queues_.take_buffer().get(), same);
}

TEST(CallerPlacesTest, WhoAsksOftenIsLookedForAndRemembered) {
  CallerCpus cpus;
  TimePoint now = std::chrono::steady_clock::now();
  EXPECT_FALSE(cpus.cpu_of(100));
  int asked = 1;
  while (asked < 100 && !cpus.needs_lookup(100, now, false)) ++asked;
  EXPECT_GT(asked, 1);
  EXPECT_LT(asked, 100);
  cpus.note(100, 3, now);
  EXPECT_EQ(cpus.cpu_of(100), 3U);
  EXPECT_FALSE(cpus.cpu_of(101));
  EXPECT_FALSE(cpus.needs_lookup(100, now, true));
}

TEST(CallerPlacesTest, IsLookedForLaterEachTimeThatItHasNotMoved) {
  CallerCpus cpus;
  TimePoint now = std::chrono::steady_clock::now();
  const auto next_look = [&] {
    const TimePoint noted = now;
    while (!cpus.needs_lookup(100, now, true)) now += microseconds(50);
    return now - noted;
  };
  cpus.note(100, 3, now);
  const Duration first = next_look();
  cpus.note(100, 3, now);
  const Duration second = next_look();
  EXPECT_GT(second, first);
  for (int i = 0; i < 10; ++i) {
    EXPECT_LE(next_look(), milliseconds(3));
    cpus.note(100, 3, now);
  }
  cpus.note(100, 2, now);
  EXPECT_EQ(next_look(), first);
}

TEST(CallerPlacesTest, ThreadsOfOnePlaceInTheTableForgetEachOther) {
  CallerCpus cpus;
  const TimePoint now = std::chrono::steady_clock::now();
  for (int thread = 1; thread <= 100'000; ++thread) {
    cpus.note(thread, static_cast<unsigned>(thread % 7), now);
    EXPECT_EQ(cpus.cpu_of(thread), static_cast<unsigned>(thread % 7));
  }
  EXPECT_FALSE(cpus.cpu_of(1));
  EXPECT_FALSE(cpus.cpu_of(0)) << "a caller that cannot be seen";
  EXPECT_FALSE(cpus.needs_lookup(0, now, true));
}

}  // namespace
}  // namespace berth::fuse
