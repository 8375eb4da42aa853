// How far threads have come on their way into shares that are to be native.
#include "fuse/callers/stale_retries.h"

#include <gtest/gtest.h>

namespace berth::fuse {
namespace {

using namespace std::chrono_literals;
using Stage = StaleRetries::Stage;

TEST(StaleRetries, IsKnownByThreadAndShareUntilItPauses) {
  StaleRetries sent;
  const TimePoint now{1h};
  EXPECT_EQ(sent.stage_of(1, 7, now), Stage::kUnknown);
  ASSERT_TRUE(sent.set(1, 7, Stage::kOnItsWay, now));
  EXPECT_EQ(sent.stage_of(1, 7, now), Stage::kOnItsWay);
  EXPECT_EQ(sent.stage_of(2, 7, now), Stage::kUnknown);
  EXPECT_EQ(sent.stage_of(1, 8, now), Stage::kUnknown);
  ASSERT_TRUE(sent.set(1, 7, Stage::kPassed, now + 1s));
  EXPECT_EQ(sent.stage_of(1, 7, now + 1s), Stage::kPassed);
  EXPECT_EQ(sent.stage_of(1, 7, now + 1min), Stage::kUnknown) << "it comes for another reason";
}

TEST(StaleRetries, OneThatGoesOnIsServedForAWhileAndThenSentBackAtItsNextPause) {
  StaleRetries sent;
  TimePoint now{1h};
  ASSERT_TRUE(sent.set(1, 7, Stage::kInside, now));
  for (int i = 0; i < 1000; ++i) {
    now += 5ms;
    ASSERT_EQ(sent.stage_of(1, 7, now), Stage::kInside) << "it may be in the midst of a call";
    ASSERT_TRUE(sent.set(1, 7, Stage::kInside, now));
  }
  ASSERT_TRUE(sent.set(1, 7, Stage::kInsideTwice, now)) << "which does not make it stay longer";
  EXPECT_EQ(sent.stage_of(1, 7, now + 50ms), Stage::kUnknown);
}

TEST(StaleRetries, OneThatCannotBeSeenOrForWhichThereIsNoRoomIsNotSentBack) {
  StaleRetries sent;
  const TimePoint now{1h};
  EXPECT_FALSE(sent.set(0, 7, Stage::kOnItsWay, now));
  for (pid_t thread = 1; thread <= static_cast<pid_t>(StaleRetryArea::kMost); ++thread) {
    ASSERT_TRUE(sent.set(thread, 7, Stage::kOnItsWay, now));
  }
  EXPECT_FALSE(sent.set(9999, 7, Stage::kOnItsWay, now));
  EXPECT_TRUE(sent.set(9999, 7, Stage::kOnItsWay, now + 1min)) << "those are long gone";
}

TEST(StaleRetries, OneThatPassedLongAgoMakesRoom) {
  StaleRetries sent;
  const TimePoint now{1h};
  for (pid_t thread = 1; thread <= static_cast<pid_t>(StaleRetryArea::kMost); ++thread) {
    ASSERT_TRUE(sent.set(thread, 7, Stage::kPassed, now));
  }
  EXPECT_FALSE(sent.set(9999, 7, Stage::kOnItsWay, now)) << "they may not have arrived";
  EXPECT_TRUE(sent.set(9999, 7, Stage::kOnItsWay, now + 500ms));
  EXPECT_EQ(sent.passed_in(7, now).size(), StaleRetryArea::kMost - 1);
}

TEST(StaleRetries, OneWhoseCallHasEndedIsForgottenUnlessItHasAskedMeanwhile) {
  StaleRetries sent;
  const TimePoint now{1h};
  ASSERT_TRUE(sent.set(1, 7, Stage::kWalking, now));
  const StaleRetries::Seen seen = sent.walking_in(7, now).at(0);
  ASSERT_TRUE(sent.touch(1, 7, now + 1us));
  EXPECT_FALSE(sent.has_ended(seen, 7));
  EXPECT_EQ(sent.stage_of(1, 7, now + 1us), Stage::kWalking);
  EXPECT_TRUE(sent.has_ended(sent.walking_in(7, now + 1us).at(0), 7));
  EXPECT_EQ(sent.stage_of(1, 7, now + 1us), Stage::kUnknown);
  EXPECT_FALSE(sent.touch(1, 7, now + 2us)) << "it begins anew";
}

TEST(StaleRetries, OneThatIsInsideStaysSoWhenACallToTwoPathsHasEnded) {
  StaleRetries sent;
  const TimePoint now{1h};
  ASSERT_TRUE(sent.set(1, 7, Stage::kInsideTwice, now));
  EXPECT_TRUE(sent.has_ended(sent.walking_in(7, now).at(0), 7));
  EXPECT_EQ(sent.stage_of(1, 7, now), Stage::kInside);
  EXPECT_TRUE(sent.walking_in(7, now).empty());
}

TEST(StaleRetries, NextServerKnowsIt) {
  StaleRetryArea area{};
  const TimePoint now = std::chrono::steady_clock::now();
  ASSERT_TRUE(StaleRetries(&area).set(1, 7, Stage::kOnItsWay, now));
  EXPECT_EQ(StaleRetries(&area).stage_of(1, 7, now), Stage::kOnItsWay);
}

}  // namespace
}  // namespace berth::fuse
