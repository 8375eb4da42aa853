#include "fuse/workers/posts.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "fuse/callers/caller_places.h"

namespace berth::fuse {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class PostsTest : public ::testing::Test {
 protected:
  /// A request whose size is its name here.
  Mail mail(std::size_t size, TimePoint sent = {}) {
    return {.buffer = ReadBuffer::make(requests_, 65536), .size = size, .sent = sent};
  }
  bool send(unsigned processor, std::size_t size, TimePoint sent = {}) {
    Mail to_send = mail(size, sent);
    const bool sent_it = posts_.send(processor, to_send);
    EXPECT_EQ(to_send.buffer == nullptr, sent_it) << "what is not sent stays with who has it";
    return sent_it;
  }
  /// The size of the next; 0: none.
  std::size_t receive(std::optional<unsigned> post) {
    const std::optional<Mail> received = posts_.receive(post);
    return received ? received->size : 0;
  }

  Requests requests_{nullptr};
  Posts posts_{4};
};

TEST_F(PostsTest, OneWorkerHasAPost) {
  EXPECT_TRUE(posts_.take(1));
  EXPECT_FALSE(posts_.take(1));
  EXPECT_FALSE(posts_.take(4)) << "there is no such processor";
  EXPECT_EQ(posts_.taken(), 1U);
  posts_.leave(1);
  posts_.leave(1);
  EXPECT_EQ(posts_.taken(), 0U);
  EXPECT_TRUE(posts_.take(1));
}

TEST_F(PostsTest, ClosedOneIsNotTaken) {
  posts_.close(1, std::chrono::steady_clock::now() + std::chrono::hours(1));
  EXPECT_FALSE(posts_.take(1));
  posts_.close(1, std::chrono::steady_clock::now());
  EXPECT_TRUE(posts_.take(1));
}

TEST_F(PostsTest, MailComesInItsOrderToWhomItWasSent) {
  EXPECT_FALSE(send(1, 10)) << "nobody is there";
  ASSERT_TRUE(posts_.take(1));
  ASSERT_TRUE(posts_.take(2));
  EXPECT_TRUE(send(1, 11));
  EXPECT_TRUE(send(1, 12));
  EXPECT_TRUE(posts_.has_mail(1));
  EXPECT_FALSE(posts_.has_mail(2));
  EXPECT_EQ(receive(2), 0U);
  EXPECT_EQ(receive(1), 11U);
  EXPECT_EQ(receive(1), 12U);
  EXPECT_EQ(receive(1), 0U);
  EXPECT_FALSE(posts_.has_mail());
}

TEST_F(PostsTest, WorkerDoesNotGoToSleepOverWhatWasSentToIt) {
  ASSERT_TRUE(posts_.take(1));
  EXPECT_TRUE(send(1, 11));
  EXPECT_FALSE(posts_.try_sleep(1));
  EXPECT_EQ(receive(1), 11U);
  EXPECT_TRUE(posts_.try_sleep(1));
}

TEST_F(PostsTest, NothingIsSentToASleepingWorkerAndNoMoreThanFits) {
  ASSERT_TRUE(posts_.take(1));
  ASSERT_TRUE(posts_.try_sleep(1));
  EXPECT_FALSE(send(1, 1));
  posts_.wake(1);
  std::size_t sent = 0;
  while (sent < 1000 && send(1, sent + 1)) ++sent;
  EXPECT_GT(sent, 0U);
  EXPECT_LT(sent, 1000U);
  for (std::size_t i = 1; i <= sent; ++i) EXPECT_EQ(receive(1), i);
}

TEST_F(PostsTest, WhatIsLeftBehindIsForAnybody) {
  ASSERT_TRUE(posts_.take(1));
  EXPECT_TRUE(send(1, 11));
  EXPECT_TRUE(send(1, 12));
  posts_.leave(1);
  EXPECT_TRUE(posts_.has_stray());
  EXPECT_TRUE(posts_.has_mail());
  ASSERT_TRUE(posts_.take(2));
  EXPECT_EQ(receive(2), 11U);
  EXPECT_EQ(receive(std::nullopt), 12U);
  EXPECT_FALSE(posts_.has_stray());
  EXPECT_FALSE(posts_.has_mail());
}

TEST_F(PostsTest, LateMailIsTakenByWhoHasNothingToDo) {
  const TimePoint now = std::chrono::steady_clock::now();
  ASSERT_TRUE(posts_.take(1));
  EXPECT_TRUE(send(1, 11, now - milliseconds(2)));
  EXPECT_FALSE(posts_.take_late(now, milliseconds(3)));
  const std::optional<Mail> late = posts_.take_late(now, milliseconds(1));
  ASSERT_TRUE(late);
  EXPECT_EQ(late->size, 11U);
  EXPECT_FALSE(posts_.has_mail());
}

TEST_F(PostsTest, LateMailIsLetGoOf) {
  const TimePoint now = std::chrono::steady_clock::now();
  ASSERT_TRUE(posts_.take(1));
  EXPECT_TRUE(send(1, 11, now - milliseconds(2)));
  posts_.let_go_of_late(now, milliseconds(3));
  EXPECT_FALSE(posts_.has_stray());
  posts_.let_go_of_late(now, milliseconds(1));
  EXPECT_EQ(receive(std::nullopt), 11U);
}

/// Those who send find a worker there and put it into his box, or find nobody: whatever they see, somebody gets it.
TEST_F(PostsTest, NothingIsLostWhileWorkersComeAndGo) {
  constexpr std::size_t kTurns = 20'000;
  constexpr std::size_t kSent = 1'000;
  std::atomic<bool> ends{false};
  std::atomic<std::size_t> sent{0};
  std::thread sender([&] {
    while (!ends) {
      Mail mail{.buffer = nullptr, .size = 1, .sent = {}};
      if (posts_.send(1, mail)) ++sent;
    }
  });
  std::size_t received = 0;
  for (std::size_t i = 0; i < kTurns || sent < kSent; ++i) {
    ASSERT_TRUE(posts_.take(1));
    received += receive(1);
    posts_.leave(1);
    ASSERT_FALSE(posts_.has_mail(1)) << "in the box of nobody";
    while (const std::size_t stray = receive(std::nullopt)) received += stray;
  }
  ends = true;
  sender.join();
  while (const std::size_t stray = receive(std::nullopt)) received += stray;
  EXPECT_EQ(received, sent);
  EXPECT_FALSE(posts_.has_mail());
}

TEST_F(PostsTest, SpareBuffersAreUsedAgain) {
  EXPECT_EQ(posts_.take_spare(), nullptr);
  std::unique_ptr<ReadBuffer> buffer = ReadBuffer::make(requests_, 65536);
  const ReadBuffer* const same = buffer.get();
  posts_.add_spare(std::move(buffer));
  EXPECT_EQ(posts_.take_spare().get(), same);
}

TEST(CallerPlacesTest, WhoAsksOftenIsLookedForAndRemembered) {
  CallerPlaces places;
  TimePoint now = std::chrono::steady_clock::now();
  EXPECT_FALSE(places.place_of(100));
  int asked = 1;
  while (asked < 100 && !places.is_to_be_looked_for(100, now, false)) ++asked;
  EXPECT_GT(asked, 1);
  EXPECT_LT(asked, 100);
  places.note(100, 3, now);
  EXPECT_EQ(places.place_of(100), 3U);
  EXPECT_FALSE(places.place_of(101));
  EXPECT_FALSE(places.is_to_be_looked_for(100, now, true));
}

TEST(CallerPlacesTest, IsLookedForLaterEachTimeThatItHasNotMoved) {
  CallerPlaces places;
  TimePoint now = std::chrono::steady_clock::now();
  const auto next_look = [&] {
    const TimePoint noted = now;
    while (!places.is_to_be_looked_for(100, now, true)) now += microseconds(50);
    return now - noted;
  };
  places.note(100, 3, now);
  const Duration first = next_look();
  places.note(100, 3, now);
  const Duration second = next_look();
  EXPECT_GT(second, first);
  for (int i = 0; i < 10; ++i) {
    EXPECT_LE(next_look(), milliseconds(3));
    places.note(100, 3, now);
  }
  places.note(100, 2, now);
  EXPECT_EQ(next_look(), first);
}

TEST(CallerPlacesTest, ThreadsOfOnePlaceInTheTableForgetEachOther) {
  CallerPlaces places;
  const TimePoint now = std::chrono::steady_clock::now();
  for (int thread = 1; thread <= 100'000; ++thread) {
    places.note(thread, static_cast<unsigned>(thread % 7), now);
    EXPECT_EQ(places.place_of(thread), static_cast<unsigned>(thread % 7));
  }
  EXPECT_FALSE(places.place_of(1));
  EXPECT_FALSE(places.place_of(0)) << "a caller that cannot be seen";
  EXPECT_FALSE(places.is_to_be_looked_for(0, now, true));
}

}  // namespace
}  // namespace berth::fuse
