#include "fuse/session/lane.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>

#include <chrono>

namespace berth::fuse {
namespace {

/// A request that writes a page of `node` back, and was acknowledged.
Lane::Waiting acknowledged(std::uint64_t unique, std::uint64_t node) {
  Lane::Waiting waiting;
  waiting.unique = unique;
  waiting.node = node;
  waiting.opcode = FUSE_WRITE;
  waiting.written_back = 4096;
  waiting.must_be_done = true;
  waiting.answered = true;
  return waiting;
}

TEST(Lane, AcknowledgedPagesOfOneFileAreWrittenOneAfterTheOther) {
  Lane lane;
  const TimePoint now = std::chrono::steady_clock::now();
  Lane::Epoch epoch = 0;
  for (int threads = 0; threads < 3; ++threads) ASSERT_TRUE(lane.try_enter(Lane::kMostInside, epoch));
  lane.take_over(acknowledged(2, 7));
  lane.take_over(acknowledged(4, 7));
  lane.take_over(acknowledged(6, 8));
  const auto unique_of = [](const std::optional<Lane::Waiting>& one) { return one ? one->unique : 0; };
  EXPECT_EQ(unique_of(lane.leave(now, epoch)), 2U);
  EXPECT_EQ(unique_of(lane.leave(now, epoch)), 6U) << "of another file";
  EXPECT_EQ(unique_of(lane.leave(now, epoch)), 0U) << "may be of the page that is being written";
  EXPECT_FALSE(lane.remove_unwritten(7, 2)) << "it has more";
  EXPECT_EQ(unique_of(lane.leave(now, epoch)), 4U);
  EXPECT_TRUE(lane.remove_unwritten(7, 4));
}

}  // namespace
}  // namespace berth::fuse
