// How far threads have come on their way into shares that are to be native.
#include "fuse/callers/stale_retries.h"

#include <gtest/gtest.h>

#include <map>

#include "fuse/callers/path_calls.h"

namespace berth::fuse {
namespace {

using namespace std::chrono_literals;
using Stage = StaleRetries::Stage;

/// The system calls that threads are in, by thread.
std::map<pid_t, std::uint64_t>& calls() {
  static std::map<pid_t, std::uint64_t> all;
  return all;
}

/// Where they walk from.
std::map<pid_t, std::uint64_t>& walks() {
  static std::map<pid_t, std::uint64_t> all;
  return all;
}

class StaleRetriesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    calls().clear();
    walks().clear();
  }
  static std::optional<std::uint64_t> walk_of_thread(pid_t thread) {
    const auto found = walks().find(thread);
    return found != walks().end() ? std::optional(found->second) : std::nullopt;
  }
  static std::uint64_t call_of_thread(pid_t thread) {
    const auto found = calls().find(thread);
    return found != calls().end() ? found->second : kNoCall;
  }
  /// Thread 1 is sent back from share 7, walks again in the same call, and passes that share's name.
  void pass_name_in_second_walk(TimePoint now) {
    calls()[1] = 77;
    ASSERT_TRUE(sent_.set_sent_back(1, 7, now));
    sent_.set_walk(1, 7, 3);
    ASSERT_TRUE(sent_.set(1, 7, Stage::kPassed, now));
  }

  StaleRetryArea area_{};
  StaleRetries sent_{&area_, &call_of_thread, &walk_of_thread};
};

TEST_F(StaleRetriesTest, IsKnownByThreadAndShareUntilItPauses) {
  const TimePoint now{1h};
  EXPECT_EQ(sent_.stage_of(1, 7, now), Stage::kUnknown);
  ASSERT_TRUE(sent_.set(1, 7, Stage::kOnItsWay, now));
  EXPECT_EQ(sent_.stage_of(1, 7, now), Stage::kOnItsWay);
  EXPECT_EQ(sent_.stage_of(2, 7, now), Stage::kUnknown);
  EXPECT_EQ(sent_.stage_of(1, 8, now), Stage::kUnknown);
  ASSERT_TRUE(sent_.set(1, 7, Stage::kPassed, now + 1s));
  EXPECT_EQ(sent_.stage_of(1, 7, now + 1s), Stage::kPassed);
  EXPECT_EQ(sent_.stage_of(1, 7, now + 1min), Stage::kUnknown) << "it comes for another reason";
}

/// Incarnations are counted, not shares: there are more of them than shares can be configured.
TEST_F(StaleRetriesTest, LastIncarnationOfAShareIsKnownAsTheFirstIs) {
  const TimePoint now{1h};
  for (const std::uint32_t share : {0U, 1U << 17U, (1U << StaleRetries::kShareBits) - 1}) {
    ASSERT_TRUE(sent_.set(1, share, Stage::kInsideTwice, now));
    EXPECT_EQ(sent_.stage_of(1, share, now), Stage::kInsideTwice) << share;
    EXPECT_EQ(sent_.walking_in(share, now).size(), 1U) << share;
    ASSERT_TRUE(sent_.set(1, share, Stage::kPassed, now));
    ASSERT_EQ(sent_.passed_in(share).size(), 1U);
    EXPECT_EQ(sent_.passed_in(share).front().thread, 1);
  }
}

TEST_F(StaleRetriesTest, OneThatGoesOnIsServedForAWhileAndThenSentBackAtItsNextPause) {
  TimePoint now{1h};
  ASSERT_TRUE(sent_.set(1, 7, Stage::kInside, now));
  for (int i = 0; i < 1000; ++i) {
    now += 5ms;
    ASSERT_EQ(sent_.stage_of(1, 7, now), Stage::kInside) << "it may be in the midst of a call";
    ASSERT_TRUE(sent_.set(1, 7, Stage::kInside, now));
  }
  ASSERT_TRUE(sent_.set(1, 7, Stage::kInsideTwice, now)) << "which does not make it stay longer";
  EXPECT_EQ(sent_.stage_of(1, 7, now + 50ms), Stage::kUnknown);
}

TEST_F(StaleRetriesTest, OneThatCannotBeSeenOrForWhichThereIsNoRoomIsNotSentBack) {
  const TimePoint now{1h};
  EXPECT_FALSE(sent_.set(0, 7, Stage::kOnItsWay, now));
  for (pid_t thread = 1; thread <= static_cast<pid_t>(StaleRetryArea::kMost); ++thread) {
    ASSERT_TRUE(sent_.set(thread, 7, Stage::kOnItsWay, now));
  }
  EXPECT_FALSE(sent_.set(9999, 7, Stage::kOnItsWay, now));
  EXPECT_TRUE(sent_.set(9999, 7, Stage::kOnItsWay, now + 1min)) << "those are long gone";
}

TEST_F(StaleRetriesTest, OneThatPassedLongAgoMakesRoom) {
  const TimePoint now{1h};
  for (pid_t thread = 1; thread <= static_cast<pid_t>(StaleRetryArea::kMost); ++thread) {
    ASSERT_TRUE(sent_.set(thread, 7, Stage::kPassed, now));
  }
  EXPECT_FALSE(sent_.set(9999, 7, Stage::kOnItsWay, now)) << "they may not have arrived";
  EXPECT_TRUE(sent_.set(9999, 7, Stage::kOnItsWay, now + 500ms));
  EXPECT_EQ(sent_.passed_in(7).size(), StaleRetryArea::kMost - 1);
}

TEST_F(StaleRetriesTest, OneThatGoesThroughManySharesMakesRoomForItself) {
  const TimePoint now{1h};
  for (std::uint32_t share = 0; share < 1000; ++share) {
    ASSERT_TRUE(sent_.set(1, share, Stage::kOnItsWay, now)) << share;
    ASSERT_TRUE(sent_.set(1, share, Stage::kPassed, now));
  }
}

TEST_F(StaleRetriesTest, OneWhoseCallHasEndedIsForgottenUnlessItHasAskedMeanwhile) {
  const TimePoint now{1h};
  ASSERT_TRUE(sent_.set(1, 7, Stage::kWalking, now));
  const StaleRetries::Seen seen = sent_.walking_in(7, now).at(0);
  ASSERT_TRUE(sent_.touch(1, 7, now + 1us));
  EXPECT_FALSE(sent_.has_ended(seen, 7));
  EXPECT_EQ(sent_.stage_of(1, 7, now + 1us), Stage::kWalking);
  EXPECT_TRUE(sent_.has_ended(sent_.walking_in(7, now + 1us).at(0), 7));
  EXPECT_EQ(sent_.stage_of(1, 7, now + 1us), Stage::kUnknown);
  EXPECT_FALSE(sent_.touch(1, 7, now + 2us)) << "it begins anew";
}

TEST_F(StaleRetriesTest, OneThatIsInsideStaysSoWhenACallToTwoPathsHasEnded) {
  const TimePoint now{1h};
  ASSERT_TRUE(sent_.set(1, 7, Stage::kInsideTwice, now));
  EXPECT_TRUE(sent_.has_ended(sent_.walking_in(7, now).at(0), 7));
  EXPECT_EQ(sent_.stage_of(1, 7, now), Stage::kInside);
  EXPECT_TRUE(sent_.walking_in(7, now).empty());
}

TEST_F(StaleRetriesTest, OneThatCameToAnotherIncarnationOfTheShareIsKnownToHaveBeenSentBack) {
  const TimePoint now{1h};
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(1, 8, now));
  ASSERT_TRUE(sent_.set(1, 7, Stage::kOnItsWay, now));
  EXPECT_TRUE(sent_.was_sent_back_elsewhere(1, 8, now));
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(1, 7, now)) << "it is this share";
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(2, 8, now));
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(1, 8, now + 1min));
  ASSERT_TRUE(sent_.set(1, 7, Stage::kPassed, now));
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(1, 8, now)) << "it has come to its name";
}

TEST_F(StaleRetriesTest, NextServerKnowsIt) {
  const TimePoint now{1h};
  calls()[1] = 77;
  ASSERT_TRUE(sent_.set_sent_back(1, 7, now));
  StaleRetries next(&area_, &call_of_thread, &walk_of_thread);
  EXPECT_EQ(next.stage_of(1, 7, now), Stage::kOnItsWay);
  EXPECT_EQ(next.stage_of(1, 7, now + 1min), Stage::kOnItsWay);
}

TEST_F(StaleRetriesTest, OneThatMayBeInItsCallStillIsKnownHoweverLongItGetsNoProcessor) {
  TimePoint now{1h};
  for (const std::uint64_t seen : {std::uint64_t{77}, kCallNotSeen}) {
    calls()[1] = 77;
    ASSERT_TRUE(sent_.set_sent_back(1, 7, now));
    calls()[1] = seen;
    EXPECT_EQ(sent_.stage_of(1, 7, now += 1min), Stage::kOnItsWay);
    ASSERT_TRUE(sent_.set(1, 7, Stage::kPassed, now));
    EXPECT_EQ(sent_.stage_of(1, 7, now += 1min), Stage::kPassed);
    EXPECT_EQ(sent_.passed_in(7).size(), 1U);
    ASSERT_TRUE(sent_.set(1, 7, Stage::kInside, now));
    EXPECT_EQ(sent_.stage_of(1, 7, now += 1min), Stage::kInside);
  }
  calls()[1] = 78;
  EXPECT_EQ(sent_.stage_of(1, 7, now), Stage::kInside) << "it has not paused";
  EXPECT_EQ(sent_.stage_of(1, 7, now + 1min), Stage::kUnknown) << "it is in another call";
}

TEST_F(StaleRetriesTest, OneThatDoesTheSameCallAgainAndAgainIsSentBackAgain) {
  TimePoint now{1h};
  calls()[1] = 77;
  ASSERT_TRUE(sent_.set_sent_back(1, 7, now));
  int served = 0;
  for (; served < 1000 && sent_.stage_of(1, 7, now += 10s) != Stage::kUnknown; ++served) {
    ASSERT_TRUE(sent_.set(1, 7, Stage::kInside, now));
  }
  EXPECT_GT(served, 40) << "symbolic links that a path may have";
  EXPECT_LT(served, 1000);
}

TEST_F(StaleRetriesTest, OneThatIsSeenOutsideOfItsCallIsUnknownEvenIfItDoesTheSameAgain) {
  const TimePoint now{1h};
  calls()[1] = 77;
  ASSERT_TRUE(sent_.set_sent_back(1, 7, now));
  ASSERT_TRUE(sent_.set(1, 7, Stage::kPassed, now));
  EXPECT_TRUE(sent_.has_ended(sent_.passed_in(7).at(0), 7));
  EXPECT_EQ(sent_.stage_of(1, 7, now), Stage::kUnknown);
}

TEST_F(StaleRetriesTest, OneThatComesFromAnotherShareInTheSameCallIsKnownToHaveBeenSentBack) {
  const TimePoint now{1h};
  calls()[1] = 77;
  EXPECT_EQ(sent_.came_from_elsewhere(1, 8), std::nullopt);
  ASSERT_TRUE(sent_.set_sent_back(1, 7, now));
  ASSERT_TRUE(sent_.set(1, 7, Stage::kPassed, now + 1s));
  EXPECT_EQ(sent_.came_from_elsewhere(1, 8), now + 1s);
  EXPECT_EQ(sent_.came_from_elsewhere(1, 7), std::nullopt) << "it is this share";
  calls()[1] = 78;
  EXPECT_EQ(sent_.came_from_elsewhere(1, 8), std::nullopt) << "it is in another call";
}

TEST_F(StaleRetriesTest, OneThatWasSentBackElsewhereInAnEarlierCallIsSentBackHere) {
  const TimePoint now{1h};
  calls()[1] = 77;
  ASSERT_TRUE(sent_.set_sent_back(1, 7, now));
  EXPECT_TRUE(sent_.was_sent_back_elsewhere(1, 8, now + 1min));
  calls()[1] = 78;
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(1, 8, now));
  EXPECT_EQ(sent_.stage_of(1, 7, now), Stage::kUnknown);
}

TEST_F(StaleRetriesTest, OneThatWalksFromWhereItCameToTheNameOfAnotherShareIsKnownToHaveBeenSentBack) {
  const TimePoint now{1h};
  ASSERT_NO_FATAL_FAILURE(pass_name_in_second_walk(now));
  walks()[1] = 3;
  EXPECT_TRUE(sent_.was_sent_back_elsewhere(1, 8, now));
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(1, 7, now)) << "it is this share";
  walks()[1] = 1;
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(1, 8, now)) << "it does the same call again, and walks for the first time";
  walks().clear();
  EXPECT_TRUE(sent_.was_sent_back_elsewhere(1, 8, now)) << "it may walk again, for all that is known";
  calls()[1] = 78;
  EXPECT_FALSE(sent_.was_sent_back_elsewhere(1, 8, now)) << "it is in another call";
}

TEST_F(StaleRetriesTest, OfWhichTheWalkIsNotKnownMayHaveBeenSentBackInThisOne) {
  const TimePoint now{1h};
  ASSERT_NO_FATAL_FAILURE(pass_name_in_second_walk(now));
  walks()[1] = 1;
  StaleRetries next(&area_, &call_of_thread, &walk_of_thread);
  EXPECT_TRUE(next.was_sent_back_elsewhere(1, 8, now)) << "the next server does not know it";
  ASSERT_TRUE(sent_.set_sent_back(1, 7, now));
  ASSERT_TRUE(sent_.set(1, 7, Stage::kPassed, now));
  EXPECT_TRUE(sent_.was_sent_back_elsewhere(1, 8, now)) << "what was noted is of an earlier call";
}

}  // namespace
}  // namespace berth::fuse
