// When shares are handed over to native access: in quiet moments, many at once.
#include "manager/engine/life_cycle.h"
#include "tests/unit/manager/engine/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;

/// Lays over what it is asked to.
class CountedNativeAccess final : public NativeAccess {
 public:
  void begin_batch(const std::vector<const Share*>& shares) override { batches.push_back(shares.size()); }
  void end_batch() override { ++ended; }
  Result<> lay_over(const Share& share, int, TimePoint) override {
    EXPECT_EQ(batches.size(), ended + 1) << "in a batch";
    if (bad_moments > 0) {
      --bad_moments;
      return fail(EAGAIN);
    }
    laid.insert(share.name());
    return {};
  }
  Result<Outcome> take_off(const Share&, When, TimePoint) override { return Outcome::kTouched; }

  std::vector<std::size_t> batches;  ///< how many each had
  std::size_t ended = 0;
  std::set<std::string> laid;
  int bad_moments = 0;  ///< still to come
};

class HandOver : public ManagerTest {
 protected:
  void serve(int shares, SharePolicy policy = {}) {
    setup_.native = &native_;
    for (int i = 0; i < shares; ++i) add("s" + std::to_string(i), policy);
    start();
  }
  void touch(int number) {
    ask("s" + std::to_string(number));
    manager_->run_pending();
  }
  /// As time goes by: timers are late by a millisecond at most.
  void live(std::chrono::milliseconds time) {
    for (; time > 0ms; time -= 1ms) pass(1ms);
  }

  /// Somebody waits for it: what he is told, once he is.
  std::shared_ptr<std::optional<bool>> wait_for(const std::string& name) {
    auto told = std::make_shared<std::optional<bool>>();
    manager_->hand_over(share(name), [told](bool handed_over) {
      EXPECT_FALSE(told->has_value()) << "told once";
      *told = handed_over;
    });
    manager_->run_pending();
    return told;
  }

  CountedNativeAccess native_;
  const TimePoint begun_ = clock_.now();
};

TEST_F(HandOver, WaitsUntilNoShareIsBeingMountedAndThenServesAllTogether) {
  serve(3);
  for (int i = 0; i < 3; ++i) {
    touch(i);
    live(life_cycle::kHandOverQuiet - 10ms);
    EXPECT_TRUE(native_.batches.empty());
  }
  live(20ms);
  EXPECT_EQ(native_.laid, (std::set<std::string>{"s0", "s1", "s2"}));
  EXPECT_EQ(native_.batches, std::vector<std::size_t>{3});
}

TEST_F(HandOver, ComesOnAHostThatIsNeverQuietAsWell) {
  constexpr int kShares = 150;
  serve(kShares);
  for (int i = 0; i < kShares; ++i) {
    touch(i);
    live(20ms);
    if (i == 0) continue;
    ASSERT_TRUE(native_.batches.empty() || clock_.now() - begun_ >= life_cycle::kHandOverLongestWait);
  }
  EXPECT_TRUE(native_.laid.contains("s0"));
  EXPECT_FALSE(native_.laid.contains("s" + std::to_string(kShares - 1)));
  EXPECT_LE(*std::max_element(native_.batches.begin(), native_.batches.end()), 4U) << "few at once";
}

TEST_F(HandOver, WaitsUntilNobodyHasComeToTheShareForAMomentButNotForever) {
  serve(1);
  const TimePoint begun = clock_.now();
  while (native_.laid.empty() && clock_.now() - begun < 1min) {
    touch(0);
    share("s0").touch(clock_.now());  // whose leases know the machine's time only
    live(20ms);
    ASSERT_TRUE(native_.laid.empty() || clock_.now() - begun >= life_cycle::kHandOverLongestWait);
  }
  EXPECT_LT(clock_.now() - begun, 1min);
}

TEST_F(HandOver, ComesAtOnceForWhoWaitsForItThoughTheHostIsNotQuiet) {
  serve(3);
  touch(0);
  touch(1);
  EXPECT_TRUE(share("s0").awaits_hand_over());
  EXPECT_FALSE(share("s2").awaits_hand_over()) << "it is not mounted";
  const auto told = wait_for("s0");
  const auto told_as_well = wait_for("s0");
  EXPECT_EQ(native_.laid, std::set<std::string>{"s0"});
  EXPECT_EQ(*told, true);
  EXPECT_EQ(*told_as_well, true);
  EXPECT_FALSE(share("s0").awaits_hand_over());
  EXPECT_EQ(*wait_for("s2"), false);
}

TEST_F(HandOver, NobodyWaitsForItLongOrWhereItDoesNotComeOff) {
  serve(2);
  native_.bad_moments = 1;
  touch(0);
  auto told = wait_for("s0");
  EXPECT_FALSE(told->has_value()) << "it is tried again";
  live(20ms);
  EXPECT_EQ(*told, true);

  native_.bad_moments = static_cast<int>(life_cycle::kHandOverTries) + 3;
  touch(1);
  told = wait_for("s1");
  live(life_cycle::kHandOverPatience);
  EXPECT_EQ(*told, false);
  EXPECT_FALSE(share("s1").awaits_hand_over());
  EXPECT_EQ(*wait_for("s1"), false);
  live(life_cycle::kHandOverPatience);
  EXPECT_TRUE(native_.laid.contains("s1")) << "later, all the same";
}

TEST_F(HandOver, ShareThatIsIdleBeforeItsTurnIsUnmountedAndHandedOverAtItsNextAccess) {
  SharePolicy policy;
  policy.idle_timeout = 30ms;
  serve(1, policy);
  touch(0);
  live(200ms);
  EXPECT_TRUE(native_.batches.empty());
  EXPECT_EQ(share("s0").status().state, ShareState::kIdle);
  const auto lease = ask("s0");
  live(200ms);
  EXPECT_EQ(native_.laid, std::set<std::string>{"s0"}) << "somebody is in it this time";
}

}  // namespace
}  // namespace berth::manager
