#include "manager/engine/life_cycle.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <random>

#include "manager/model/gate.h"

namespace berth::manager::life_cycle {
namespace {

using namespace std::chrono_literals;

/// The world around one share, reduced to what the life cycle can change: performs the effects, and at each step picks
/// what happens next among what can happen.
class World {
 public:
  explicit World(std::uint32_t seed) : random_(seed) {
    policy_.idle_timeout = std::chrono::milliseconds(pick(3) * 500);
    policy_.mount_timeout = 5s;
    stays_ = pick(4) == 0;
  }

  void live_one_event() {
    now_ += std::chrono::milliseconds(pick(pick(2) == 0 ? 30 : 3000));
    switch (pick(12)) {
      case 0:
      case 1:
        if (drained_) break;  // refused at the door
        waiters_++;
        feed(LeaseWanted{});
        break;
      case 2:
      case 3:
        end_operation();
        end_native_operation();
        break;
      case 4:
        if (gate_.try_enter()) users_++;
        break;
      case 5:
      case 6:
        if (users_ > 0) {
          users_--;
          left_ = now_;
          const Gate::Left left = gate_.leave();
          if ((left == Gate::Left::kIdle && policy_.idle_timeout == 0ms) || drained_) feed(BecameIdle{});
        }
        break;
      case 7:
        unmount_answers_owed_++;
        feed(UnmountWanted{pick(3) == 0});
        break;
      case 8:
        feed(RetryWanted{});
        break;
      case 9:
        if (pick(4) == 0) feed(MountLost{"gone"});
        if (pick(4) == 0) feed(pick(2) == 0 ? Input(Silent{"no answer"}) : Input(Answered{}));
        break;
      case 10:
        drained_ = !drained_;
        feed(HostStateChanged{});
        break;
      case 11:
        if (!drained_) feed(NativeWanted{});  // refused at the door
        break;
    }
    if (timer_ && *timer_ <= now_) {
      timer_.reset();
      feed(Timer{users_, left_});
    }
    check();
  }

  /// Lets everything that is under way come to its end.
  void come_to_rest() {
    for (int i = 0; i < 100 && (operation_ || native_ || waiters_ > 0 || unmount_answers_owed_ > 0); ++i) {
      now_ += 1s;
      end_operation();
      end_native_operation();
      if (timer_ && *timer_ <= now_) {
        timer_.reset();
        feed(Timer{users_, left_});
      }
      check();
    }
    EXPECT_EQ(waiters_, 0) << "what waits, waits for something";
    EXPECT_FALSE(operation_);
    EXPECT_FALSE(native_);
    EXPECT_EQ(unmount_answers_owed_, 0);
  }

  [[nodiscard]] int times_overmounted() const noexcept { return times_overmounted_; }
  [[nodiscard]] int times_taken() const noexcept { return times_taken_; }
  [[nodiscard]] int times_abandoned() const noexcept { return times_abandoned_; }
  [[nodiscard]] int times_mount_abandoned() const noexcept { return times_mount_abandoned_; }

  /// Drained, all users leave: what is left is nothing.
  void drain_to_the_end() {
    drained_ = true;
    feed(HostStateChanged{});
    while (users_ > 0) {
      users_--;
      left_ = now_;
      (void)gate_.leave();
      feed(BecameIdle{});
      check();
    }
    for (int i = 0; i < 1000 && ((stays_ ? is_active(state_) : really_mounted_) || operation_ || native_); ++i) {
      now_ += 10s;
      end_operation();
      end_native_operation();
      if (timer_ && *timer_ <= now_) {
        timer_.reset();
        feed(Timer{users_, left_});
      }
      check();
    }
    if (stays_) {
      EXPECT_FALSE(is_active(state_)) << "what holds the only copy of its files does not stand in the way of a drain";
    } else {
      EXPECT_FALSE(really_mounted_);
    }
  }

 private:
  enum class Operation { kMount, kUnmount };
  enum class NativeOperation { kOvermount, kRemove };

  std::uint32_t pick(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(random_);
  }

  void end_operation() {
    if (stuck_mounts_ > 0 && pick(8) == 0) --stuck_mounts_;
    if (!operation_) return;
    const Operation ended = *std::exchange(operation_, std::nullopt);
    if (ended == Operation::kMount) {
      really_mounted_ = pick(3) != 0;
      feed(
          MountEnded{really_mounted_, really_mounted_ ? Error(0) : Error(EHOSTDOWN), 0.5, pick(2) == 0, false, stays_});
    } else {
      const bool success = forced_ || pick(3) != 0;
      if (success) really_mounted_ = false;
      feed(UnmountEnded{success, success ? Error(0) : Error(EBUSY)});
    }
  }

  void end_native_operation() {
    if (!native_) return;
    const NativeOperation ended = *std::exchange(native_, std::nullopt);
    if (ended == NativeOperation::kOvermount) {
      const std::uint32_t luck = pick(6);
      lies_over_ = luck > 1;
      if (lies_over_) ++times_overmounted_;
      feed(OvermountDone{lies_over_ ? Error(0) : Error(luck == 0 ? EAGAIN : EOPNOTSUPP)});
      return;
    }
    const auto outcome = static_cast<NativeAccess::Outcome>(pick(3));
    const bool known = pick(8) != 0;
    if (known && outcome == NativeAccess::Outcome::kOff) {
      lies_over_ = false;
      ++times_taken_;
    }
    const bool wanted = pick(3) == 0;
    feed(OvermountRemoved{outcome, known ? Error(0) : Error(ETIMEDOUT), wanted});
    if (wanted && is_ready_to_overmount(state_)) feed(NativeWanted{});
  }

  void feed(const Input& happening) {
    Step next = step(state_, happening, policy_, now_, drained_, stuck_mounts_ < 2);
    state_ = std::move(next.state);
    for (Effect& effect : next.effects) std::visit([this](auto& e) { perform(e); }, effect);
  }

  void perform(StartMount&) {
    EXPECT_FALSE(operation_) << "never two operations at once";
    EXPECT_FALSE(really_mounted_);
    operation_ = Operation::kMount;
  }
  void perform(StartUnmount& start) {
    EXPECT_FALSE(operation_) << "never two operations at once";
    EXPECT_FALSE(native_) << "never beside an operation of native access";
    EXPECT_TRUE(gate_.closed());
    EXPECT_EQ(start.native, lies_over_) << "taken off if and only if it lies there";
    EXPECT_TRUE(start.force || !lies_over_) << "only force takes it from under its users";
    lies_over_ = false;
    forced_ = start.force;
    operation_ = Operation::kUnmount;
  }
  void perform(Overmount&) {
    EXPECT_FALSE(operation_ || native_) << "never two operations at once";
    EXPECT_TRUE(really_mounted_ && !lies_over_);
    native_ = NativeOperation::kOvermount;
  }
  void perform(RemoveOvermount& take) {
    EXPECT_FALSE(operation_ || native_) << "never two operations at once";
    EXPECT_TRUE(lies_over_);
    EXPECT_NE(take.when, NativeAccess::When::kAlways);
    native_ = NativeOperation::kRemove;
  }
  void perform(OpenGate&) {
    gate_.open();
    left_ = now_;
  }
  void perform(ReopenGate&) {
    EXPECT_TRUE(really_mounted_);
    gate_.open();
    left_ = now_;
  }
  void perform(CloseGate&) { gate_.close(); }
  void perform(CloseGateIfIdle&) {
    if (gate_.close_if_idle() || (gate_.closed() && gate_.users() == 0)) {
      feed(GateClosed{});
    } else {
      feed(GateInUse{gate_.users()});
    }
  }
  void perform(AdmitWaiters&) {
    EXPECT_FALSE(gate_.closed());
    waiters_ = 0;
  }
  void perform(FailWaiters& fail) {
    EXPECT_NE(fail.error.code(), 0);
    waiters_ = 0;
  }
  void perform(AnswerUnmount&) { unmount_answers_owed_ = 0; }
  void perform(SetTimer& timer) { timer_ = timer.at; }
  void perform(ClearTimer&) { timer_.reset(); }
  void perform(Emit&) {}
  void perform(HurryOperation&) { EXPECT_TRUE(operation_) << "there is one to be told"; }
  void perform(AbandonOperation&) {
    ASSERT_TRUE(operation_);
    if (operation_ == Operation::kMount) {
      ++stuck_mounts_;
      ++times_mount_abandoned_;
    } else {
      ++times_abandoned_;
    }
    operation_.reset();
  }

  void check() {
    const auto* mounted = std::get_if<Mounted>(&state_);
    EXPECT_EQ(!gate_.closed(), mounted != nullptr && !drained_) << "gate open if and only if mounted and not drained";
    if (mounted != nullptr) {
      EXPECT_EQ(mounted->draining, drained_);
    }
    EXPECT_EQ(operation_.has_value(),
              std::holds_alternative<Mounting>(state_) || std::holds_alternative<Expiring>(state_));
    if (waiters_ > 0) {
      EXPECT_TRUE(operation_) << "what waits, waits for an operation";
    }
    if (std::holds_alternative<Idle>(state_) || std::holds_alternative<Failed>(state_)) {
      EXPECT_FALSE(really_mounted_) << "nothing is left mounted";
    }
    if (std::holds_alternative<Mounted>(state_)) {
      EXPECT_TRUE(timer_ || native_ || mounted->resting) << "a mounted share will be looked at again";
    } else {
      EXPECT_FALSE(lies_over_) << "what lies over the directory is mounted";
      EXPECT_FALSE(native_);
    }
  }

  std::mt19937 random_;
  SharePolicy policy_;
  TimePoint now_{};
  TimePoint left_{};
  State state_;
  Gate gate_;
  std::uint64_t users_ = 0;
  bool drained_ = false;
  bool stays_ = false;
  int waiters_ = 0;
  int unmount_answers_owed_ = 0;
  bool really_mounted_ = false;
  bool forced_ = false;
  bool lies_over_ = false;
  int times_overmounted_ = 0;
  int times_taken_ = 0;
  int times_abandoned_ = 0;
  int stuck_mounts_ = 0;
  int times_mount_abandoned_ = 0;
  std::optional<Operation> operation_;
  std::optional<NativeOperation> native_;
  std::optional<TimePoint> timer_;
};

TEST(LifeCycle, RandomHistoriesKeepTheInvariants) {
  int overmounted = 0;
  int taken = 0;
  int abandoned = 0;
  int mounts_abandoned = 0;
  for (std::uint32_t seed = 0; seed < 6000 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    for (int event = 0; event < 200; ++event) world.live_one_event();
    world.come_to_rest();
    overmounted += world.times_overmounted();
    taken += world.times_taken();
    abandoned += world.times_abandoned();
    mounts_abandoned += world.times_mount_abandoned();
    world.drain_to_the_end();
  }
  EXPECT_GT(overmounted, 1000) << "the histories reach what they are about";
  EXPECT_GT(taken, 500);
  EXPECT_GT(abandoned, 500);
  EXPECT_GT(mounts_abandoned, 500);
}

/// A mounted share that is to be native, after `overmount` has answered what it has.
Mounted after_overmount(const SharePolicy& policy, Error answer, TimePoint now) {
  State state = step(Idle{}, LeaseWanted{}, policy, now).state;
  state = step(state, MountEnded{.success = true, .native = true}, policy, now).state;
  state = step(state, NativeWanted{}, policy, now).state;
  state = step(state, OvermountDone{std::move(answer)}, policy, now).state;
  return std::get<Mounted>(state);
}

template <typename E>
const E* effect_of(const Step& step) {
  for (const Effect& effect : step.effects) {
    if (const E* found = std::get_if<E>(&effect)) return found;
  }
  return nullptr;
}

TEST(LifeCycle, NativeShareIsTakenOffWhenNobodyTouchedItForItsIdleTimeout) {
  const SharePolicy policy;
  TimePoint now{};
  State state = after_overmount(policy, Error(0), now);
  now = std::get<Mounted>(state).check_native_at;
  Step first = step(state, Timer{}, policy, now);
  ASSERT_NE(effect_of<RemoveOvermount>(first), nullptr);
  state = step(first.state, OvermountRemoved{NativeAccess::Outcome::kTouched, Error(0)}, policy, now).state;
  EXPECT_EQ(std::get<Mounted>(state).check_native_at, now + policy.idle_timeout);
  // A user is inside through berth: it stays, whatever the kernel reports of the other door.
  now = std::get<Mounted>(state).check_native_at;
  EXPECT_EQ(effect_of<RemoveOvermount>(step(state, Timer{1, now}, policy, now)), nullptr);
  EXPECT_EQ(effect_of<RemoveOvermount>(step(state, Timer{0, now - policy.idle_timeout / 2}, policy, now)), nullptr);
  const Step last = step(state, Timer{0, now - policy.idle_timeout}, policy, now);
  ASSERT_NE(effect_of<RemoveOvermount>(last), nullptr);
  EXPECT_EQ(effect_of<RemoveOvermount>(last)->when, NativeAccess::When::kUntouched);
  const Step off = step(last.state, OvermountRemoved{NativeAccess::Outcome::kOff, Error(0)}, policy, now);
  EXPECT_NE(effect_of<CloseGateIfIdle>(off), nullptr);
}

TEST(LifeCycle, BadMomentLeavesItWithBerthUntilTheNextCallerAndSaysWhy) {
  const SharePolicy policy;
  const Mounted mounted = after_overmount(policy, Error(EAGAIN, "a program writes to it"), {});
  EXPECT_EQ(mounted.with_berth, "a program writes to it");
  EXPECT_TRUE(is_ready_to_overmount(mounted));
  const Step again = step(mounted, NativeWanted{}, policy, {});
  ASSERT_NE(effect_of<Overmount>(again), nullptr);
  EXPECT_TRUE(may_get_ready_to_overmount(again.state));
  const State on = step(again.state, OvermountDone{Error(0)}, policy, {}).state;
  EXPECT_EQ(std::get<Mounted>(on).with_berth, "");
  const TimePoint later = TimePoint{} + policy.idle_timeout + 1s;
  EXPECT_NE(effect_of<CloseGateIfIdle>(step(mounted, Timer{0, {}}, policy, later)), nullptr)
      << "it expires as any other";
}

TEST(LifeCycle, WhereItCannotBeOvermountedItGoesOnThroughBerth) {
  const SharePolicy policy;
  const Mounted mounted = after_overmount(policy, Error(EOPNOTSUPP), {});
  EXPECT_EQ(mounted.native, Native::kNever);
  const TimePoint later = TimePoint{} + policy.idle_timeout + 1s;
  EXPECT_NE(effect_of<CloseGateIfIdle>(step(mounted, Timer{0, {}}, policy, later)), nullptr)
      << "and expires as any other";
}

TEST(LifeCycle, DrainedNativeShareIsTakenOffThoughSomebodyIsInsideThroughBerthAndNotOvermountedAgain) {
  const SharePolicy policy;
  const TimePoint now = TimePoint{} + 1h;
  const Step drained = step(after_overmount(policy, Error(0), {}), HostStateChanged{}, policy, now, true);
  EXPECT_NE(effect_of<CloseGate>(drained), nullptr);
  const Step look = step(drained.state, Timer{1, now}, policy, now + kReleaseRetry, true);
  ASSERT_NE(effect_of<RemoveOvermount>(look), nullptr);
  EXPECT_EQ(effect_of<RemoveOvermount>(look)->when, NativeAccess::When::kUnused);
  const Step off = step(look.state, OvermountRemoved{NativeAccess::Outcome::kOff, Error(0)}, policy, now, true);
  const Step inside = step(off.state, GateInUse{1}, policy, now + 1s, true);
  EXPECT_EQ(effect_of<Overmount>(step(inside.state, Timer{1, now}, policy, now + 1min, true)), nullptr);
  const Step resumed = step(inside.state, HostStateChanged{}, policy, now + 1min);
  EXPECT_NE(effect_of<ReopenGate>(resumed), nullptr);
  EXPECT_NE(effect_of<Overmount>(step(resumed.state, NativeWanted{}, policy, now + 2min)), nullptr);
}

TEST(LifeCycle, WhoWantsItNativeHasItMountedFromEveryStateInWhichNothingIs) {
  const SharePolicy policy;
  const TimePoint now{};
  const Step idle = step(Idle{}, NativeWanted{}, policy, now);
  EXPECT_NE(effect_of<StartMount>(idle), nullptr);
  EXPECT_TRUE(may_get_ready_to_overmount(idle.state));
  const Failed failed{.attempts = 1, .retry_at = now + 1s, .error = Error(EHOSTDOWN)};
  EXPECT_EQ(effect_of<StartMount>(step(failed, NativeWanted{}, policy, now)), nullptr) << "its failure is remembered";
  EXPECT_NE(effect_of<StartMount>(step(failed, NativeWanted{}, policy, now + 1s)), nullptr);
  const Step expiring = step(Expiring{.started = now}, NativeWanted{}, policy, now);
  EXPECT_TRUE(may_get_ready_to_overmount(expiring.state));
  EXPECT_NE(effect_of<StartMount>(step(expiring.state, UnmountEnded{.success = true}, policy, now)), nullptr);
}

TEST(LifeCycle, ShareThatIsWantedWhileItIsTakenOffStaysMountedAndIsLaidOverAgain) {
  const SharePolicy policy;
  const TimePoint now{};
  const State native = after_overmount(policy, Error(0), now);
  const Step look = step(native, Timer{}, policy, std::get<Mounted>(native).check_native_at);
  ASSERT_NE(effect_of<RemoveOvermount>(look), nullptr);
  EXPECT_TRUE(may_get_ready_to_overmount(look.state));
  const Step off = step(look.state, OvermountRemoved{NativeAccess::Outcome::kOff, Error(0), true}, policy, now);
  EXPECT_EQ(effect_of<CloseGateIfIdle>(off), nullptr);
  EXPECT_NE(effect_of<Overmount>(step(off.state, NativeWanted{}, policy, now)), nullptr);
}

TEST(LifeCycle, ShareThatIsToBeUnmountedOrDrainedIsNotLaidOver) {
  const SharePolicy policy;
  const TimePoint now{};
  const State mounted = after_overmount(policy, Error(EAGAIN), now);
  const Step asked = step(mounted, UnmountWanted{}, policy, now + 1s);
  EXPECT_NE(effect_of<CloseGateIfIdle>(asked), nullptr);
  EXPECT_EQ(effect_of<Overmount>(step(asked.state, NativeWanted{}, policy, now + 1s)), nullptr);
  const Step drained = step(mounted, HostStateChanged{}, policy, now + 1s, true);
  EXPECT_EQ(effect_of<Overmount>(step(drained.state, NativeWanted{}, policy, now + 1s, true)), nullptr);
}

TEST(LifeCycle, ForceEndsTheUnmountThatRunsAndTakesThePlaceOfOneThatDoesNotEnd) {
  const SharePolicy policy;
  TimePoint now{};
  State state = step(Idle{}, LeaseWanted{}, policy, now).state;
  state = step(state, MountEnded{.success = true}, policy, now).state;
  const Step asked = step(step(state, UnmountWanted{}, policy, now).state, GateClosed{}, policy, now);
  ASSERT_NE(effect_of<StartUnmount>(asked), nullptr);
  EXPECT_FALSE(effect_of<StartUnmount>(asked)->force);
  state = step(asked.state, LeaseWanted{}, policy, now).state;
  const Step forced = step(state, UnmountWanted{true}, policy, now);
  EXPECT_NE(effect_of<HurryOperation>(forced), nullptr);
  ASSERT_NE(effect_of<FailWaiters>(forced), nullptr) << "for the share is to be idle then";
  EXPECT_EQ(effect_of<FailWaiters>(forced)->error.code(), ECONNABORTED);
  // It ends.
  const Step ended = step(forced.state, UnmountEnded{false, Error(ECANCELED)}, policy, now);
  ASSERT_NE(effect_of<StartUnmount>(ended), nullptr);
  EXPECT_TRUE(effect_of<StartUnmount>(ended)->force);
  EXPECT_EQ(effect_of<AnswerUnmount>(ended), nullptr) << "not before that has ended";
  EXPECT_EQ(name_of(step(ended.state, UnmountEnded{true}, policy, now).state), ShareState::kIdle);
  // Or it does not, nor does the forced one.
  for (const State& stuck : {forced.state, ended.state}) {
    now = TimePoint{} + kForcePatience;
    const Step beside = step(stuck, Timer{}, policy, now);
    EXPECT_NE(effect_of<AbandonOperation>(beside), nullptr);
    ASSERT_NE(effect_of<StartUnmount>(beside), nullptr);
    EXPECT_TRUE(effect_of<StartUnmount>(beside)->force);
    EXPECT_EQ(effect_of<StartUnmount>(step(beside.state, Timer{}, policy, now + 1h)), nullptr) << "once";
    const Step idle = step(beside.state, UnmountEnded{true}, policy, now);
    EXPECT_EQ(name_of(idle.state), ShareState::kIdle);
    ASSERT_NE(effect_of<AnswerUnmount>(idle), nullptr);
    EXPECT_EQ(effect_of<AnswerUnmount>(idle)->error.code(), 0);
  }
}

/// An attempt that is still in the kernel when its deadline has been over for so long that it counts as stuck.
struct StuckMount {
  SharePolicy policy;
  TimePoint now{};
  State state;

  StuckMount() {
    state = step(Idle{}, LeaseWanted{}, policy, now).state;
    now += policy.mount_timeout;
    state = step(state, Timer{}, policy, now).state;
    EXPECT_EQ(effect_of<StartMount>(step(state, LeaseWanted{}, policy, now + 1s)), nullptr) << "it may yet end";
    now += kForcePatience;
  }
};

TEST(LifeCycle, AccessBeginsAnotherMountBesideOneThatIsStuck) {
  const StuckMount stuck;
  const Step beside = step(stuck.state, LeaseWanted{}, stuck.policy, stuck.now);
  EXPECT_NE(effect_of<AbandonOperation>(beside), nullptr);
  ASSERT_NE(effect_of<StartMount>(beside), nullptr);
  EXPECT_EQ(effect_of<StartMount>(beside)->attempt, 2U);
  EXPECT_EQ(name_of(beside.state), ShareState::kMounting);
  EXPECT_NE(effect_of<StartMount>(step(stuck.state, NativeWanted{}, stuck.policy, stuck.now)), nullptr);
  const Step full = step(stuck.state, LeaseWanted{}, stuck.policy, stuck.now, false, false);
  EXPECT_EQ(effect_of<StartMount>(full), nullptr) << "too many are stuck";
  ASSERT_NE(effect_of<FailWaiters>(full), nullptr);
  EXPECT_EQ(effect_of<FailWaiters>(full)->error.code(), ETIMEDOUT);
}

TEST(LifeCycle, RetryLeavesAMountThatIsStuckToItself) {
  const StuckMount stuck;
  const Step retried = step(stuck.state, RetryWanted{}, stuck.policy, stuck.now);
  EXPECT_NE(effect_of<AbandonOperation>(retried), nullptr);
  EXPECT_EQ(name_of(retried.state), ShareState::kFailed);
  const Step again = step(retried.state, LeaseWanted{}, stuck.policy, stuck.now);
  ASSERT_NE(effect_of<StartMount>(again), nullptr);
  EXPECT_EQ(effect_of<StartMount>(again)->attempt, 1U);
}

TEST(LifeCycle, ForceLeavesAMountThatIsStuckToItself) {
  const StuckMount stuck;
  const Step forced = step(stuck.state, UnmountWanted{true}, stuck.policy, stuck.now);
  EXPECT_NE(effect_of<HurryOperation>(forced), nullptr);
  EXPECT_EQ(effect_of<AnswerUnmount>(forced), nullptr) << "it may yet end";
  const TimePoint later = stuck.now + kForcePatience;
  const Step left = step(forced.state, Timer{}, stuck.policy, later);
  EXPECT_NE(effect_of<AbandonOperation>(left), nullptr);
  ASSERT_NE(effect_of<AnswerUnmount>(left), nullptr);
  EXPECT_EQ(effect_of<AnswerUnmount>(left)->error.code(), 0);
  EXPECT_NE(effect_of<StartMount>(step(left.state, LeaseWanted{}, stuck.policy, later + kFirstBackoff)), nullptr);
  const Step full = step(forced.state, Timer{}, stuck.policy, later, false, false);
  ASSERT_NE(effect_of<AnswerUnmount>(full), nullptr);
  EXPECT_EQ(effect_of<AnswerUnmount>(full)->error.code(), ETIMEDOUT) << "too many are stuck";
}

TEST(LifeCycle, BackoffDoublesUpToItsLongestAndJitterChoosesHalfOfIt) {
  EXPECT_EQ(backoff(1, 0), 500ms);
  EXPECT_EQ(backoff(2, 0), 1s);
  EXPECT_EQ(backoff(3, 0), 2s);
  EXPECT_EQ(backoff(1000, 0), kLongestBackoff / 2);
  EXPECT_GE(backoff(2, 0.999), 1990ms);
  EXPECT_LT(backoff(2, 0.999), 2s);
  EXPECT_LT(backoff(1000, 0.999), kLongestBackoff);
}

TEST(LifeCycle, FailureAfterFailureWaitsLonger) {
  const SharePolicy policy;
  State state;
  TimePoint now{};
  Duration last{};
  for (int i = 0; i < 4; ++i) {
    state = step(state, LeaseWanted{}, policy, now).state;
    state = step(state, MountEnded{false, Error(EHOSTDOWN), 0}, policy, now).state;
    const auto& failed = std::get<Failed>(state);
    EXPECT_GT(failed.retry_at - now, last);
    last = failed.retry_at - now;
    now = failed.retry_at;
    state = step(state, Timer{}, policy, now).state;
  }
}

TEST(LifeCycle, FailedShareStaysFailedUntilAnAttemptSucceeds) {
  const SharePolicy policy;
  State state = step(Idle{}, LeaseWanted{}, policy, {}).state;
  state = step(state, MountEnded{false, Error(EACCES), 0}, policy, {}).state;
  const TimePoint later = std::get<Failed>(state).retry_at;
  state = step(state, Timer{}, policy, later).state;
  EXPECT_EQ(name_of(state), ShareState::kFailed) << "after the back-off, too";
  state = step(state, RetryWanted{}, policy, later).state;
  EXPECT_EQ(name_of(state), ShareState::kFailed) << "and when it was asked to forget the back-off";
  const Step again = step(state, LeaseWanted{}, policy, later);
  ASSERT_NE(effect_of<StartMount>(again), nullptr);
  EXPECT_EQ(effect_of<StartMount>(again)->attempt, 1U) << "which begins again";
  state = step(again.state, MountEnded{true}, policy, later).state;
  state = step(state, GateClosed{}, policy, later).state;
  state = step(state, UnmountEnded{true}, policy, later).state;
  EXPECT_EQ(name_of(state), ShareState::kIdle);
}

TEST(LifeCycle, WhatHoldsTheOnlyCopyOfItsFilesIsUnmountedOnlyWhenAskedFor) {
  SharePolicy policy;
  policy.idle_timeout = 1s;
  for (const bool native : {false, true}) {
    State state = step(Idle{}, LeaseWanted{}, policy, {}).state;
    state = step(state, MountEnded{.success = true, .native = native, .stays = true}, policy, {}).state;
    TimePoint now{};
    if (native) {
      state = step(state, NativeWanted{}, policy, now += 1s).state;
      state = step(state, OvermountDone{}, policy, now).state;
    }
    for (int i = 0; i < 100; ++i) {
      const Step look = step(state, Timer{0, {}}, policy, now += 1h);
      ASSERT_EQ(effect_of<CloseGateIfIdle>(look), nullptr);
      ASSERT_EQ(effect_of<RemoveOvermount>(look), nullptr);
      ASSERT_NE(effect_of<SetTimer>(look), nullptr);
      state = look.state;
    }
    if (native) continue;
    state = step(state, UnmountWanted{}, policy, now).state;
    EXPECT_NE(effect_of<StartUnmount>(step(state, GateClosed{}, policy, now)), nullptr);
  }
}

TEST(LifeCycle, DrainLeavesWhatHoldsTheOnlyCopyOfItsFilesMountedAndDoesNotWaitForIt) {
  const SharePolicy policy;
  State state = step(Idle{}, LeaseWanted{}, policy, {}).state;
  state = step(state, MountEnded{.success = true, .stays = true}, policy, {}).state;
  state = step(state, HostStateChanged{}, policy, {}, true).state;
  EXPECT_TRUE(is_active(state)) << "a program may be inside";
  const Step closed = step(state, GateClosed{}, policy, {}, true);
  EXPECT_EQ(effect_of<StartUnmount>(closed), nullptr);
  EXPECT_FALSE(is_active(closed.state));
  const Step resumed = step(closed.state, HostStateChanged{}, policy, {}, false);
  EXPECT_NE(effect_of<ReopenGate>(resumed), nullptr);
  EXPECT_TRUE(is_active(resumed.state));
}

}  // namespace
}  // namespace berth::manager::life_cycle
