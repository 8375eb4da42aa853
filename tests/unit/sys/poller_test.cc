#include "src/lib/sys/poller.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <thread>

#include "tests/unit/eventually.h"

namespace berth::sys {
namespace {

class PollerTest : public ::testing::Test {
 protected:
  static UniqueFd event(unsigned value) { return UniqueFd(::eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK)); }

  Poller poller_ = *Poller::make();
};

TEST_F(PollerTest, TellsWhichDescriptorIsReady) {
  const UniqueFd ready = event(1);
  const UniqueFd quiet = event(0);
  ASSERT_TRUE(poller_.add(ready.get(), EPOLLIN, 7));
  ASSERT_TRUE(poller_.add(quiet.get(), EPOLLIN, 8));
  const auto found = poller_.wait(testing::patience());
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ((*found)[0].tag, 7U);
  EXPECT_EQ((*found)[0].events, static_cast<std::uint32_t>(EPOLLIN));
}

TEST_F(PollerTest, ForgetsWhatWasRemoved) {
  const UniqueFd ready = event(1);
  ASSERT_TRUE(poller_.add(ready.get(), EPOLLIN, 7));
  poller_.remove(ready.get());
  EXPECT_TRUE(poller_.wait(TimePoint::min())->empty());
}

TEST_F(PollerTest, RefusesTheSameDescriptorTwice) {
  const UniqueFd fd = event(0);
  ASSERT_TRUE(poller_.add(fd.get(), EPOLLIN, 7));
  EXPECT_EQ(poller_.add(fd.get(), EPOLLIN, 8).error().code(), EEXIST);
}

TEST_F(PollerTest, ReturnsAtTheDeadline) {
  const TimePoint deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
  EXPECT_TRUE(poller_.wait(deadline)->empty());
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
}

TEST_F(PollerTest, WakesFromAnotherThread) {
  std::thread other([this] { poller_.wake(); });
  EXPECT_TRUE(poller_.wait(std::nullopt)->empty());
  other.join();
}

TEST_F(PollerTest, AWakeUpBeforeTheWaitCountsOnce) {
  poller_.wake();
  poller_.wake();
  EXPECT_TRUE(poller_.wait(std::nullopt)->empty());
  const TimePoint deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
  EXPECT_TRUE(poller_.wait(deadline)->empty());
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
}

TEST_F(PollerTest, AWakeUpDoesNotHideADescriptor) {
  const UniqueFd ready = event(1);
  ASSERT_TRUE(poller_.add(ready.get(), EPOLLIN, 7));
  poller_.wake();
  EXPECT_EQ(poller_.wait(testing::patience())->size(), 1U);
}

}  // namespace
}  // namespace berth::sys
