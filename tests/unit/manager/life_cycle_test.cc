#include "manager/life_cycle.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <random>

#include "manager/gate.h"

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
  }

  void live_one_event() {
    now_ += std::chrono::milliseconds(pick(3000));
    switch (pick(10)) {
      case 0:
      case 1:
        waiters_++;
        happen(Wanted{});
        break;
      case 2:
      case 3:
        end_operation();
        break;
      case 4:
        if (gate_.try_enter()) users_++;
        break;
      case 5:
      case 6:
        if (users_ > 0) {
          users_--;
          left_ = now_;
          if (gate_.leave() == Gate::Left::kIdle && policy_.idle_timeout == 0ms) happen(BecameIdle{});
        }
        break;
      case 7:
        unmount_answers_owed_++;
        happen(UnmountWanted{pick(3) == 0});
        break;
      case 8:
        happen(RetryWanted{});
        break;
      case 9:
        if (pick(4) == 0) happen(Lost{"gone"});
        break;
    }
    if (timer_ && *timer_ <= now_) {
      timer_.reset();
      happen(Timer{users_, left_});
    }
    check();
  }

  /// Lets everything that is under way come to its end.
  void come_to_rest() {
    for (int i = 0; i < 100 && (operation_ || waiters_ > 0 || unmount_answers_owed_ > 0); ++i) {
      now_ += 1s;
      end_operation();
      if (timer_ && *timer_ <= now_) {
        timer_.reset();
        happen(Timer{users_, left_});
      }
      check();
    }
    EXPECT_EQ(waiters_, 0) << "nobody waits for nothing";
    EXPECT_FALSE(operation_);
    EXPECT_EQ(unmount_answers_owed_, 0);
  }

 private:
  enum class Operation { kMount, kUnmount };

  std::uint32_t pick(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(random_);
  }

  void end_operation() {
    if (!operation_) return;
    const Operation ended = *std::exchange(operation_, std::nullopt);
    if (ended == Operation::kMount) {
      really_mounted_ = pick(3) != 0;
      happen(MountEnded{really_mounted_, really_mounted_ ? Error(0) : Error(EHOSTDOWN), 0.5});
    } else {
      const bool success = forced_ || pick(3) != 0;
      if (success) really_mounted_ = false;
      happen(UnmountEnded{success, success ? Error(0) : Error(EBUSY)});
    }
  }

  void happen(const Happening& happening) {
    Step next = step(state_, happening, policy_, now_);
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
    EXPECT_TRUE(gate_.closed());
    forced_ = start.force;
    operation_ = Operation::kUnmount;
  }
  void perform(OpenGate&) { gate_.open(); }
  void perform(CloseGate&) { gate_.close(); }
  void perform(CloseGateIfIdle&) {
    if (gate_.close_if_idle()) {
      happen(GateClosed{});
    } else {
      happen(GateInUse{gate_.users()});
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
  void perform(Tell&) {}

  void check() {
    EXPECT_EQ(!gate_.closed(), std::holds_alternative<Mounted>(state_)) << "gate open if and only if mounted";
    EXPECT_EQ(operation_.has_value(),
              std::holds_alternative<Mounting>(state_) || std::holds_alternative<Expiring>(state_));
    if (waiters_ > 0) {
      EXPECT_TRUE(operation_) << "who waits, waits for an operation";
    }
    if (std::holds_alternative<Idle>(state_) || std::holds_alternative<Failed>(state_)) {
      EXPECT_FALSE(really_mounted_) << "nothing is left mounted";
    }
    if (std::holds_alternative<Mounted>(state_)) {
      EXPECT_TRUE(timer_) << "a mounted share will be looked at again";
    }
  }

  std::mt19937 random_;
  SharePolicy policy_;
  TimePoint now_{};
  TimePoint left_{};
  State state_;
  Gate gate_;
  std::uint64_t users_ = 0;
  int waiters_ = 0;
  int unmount_answers_owed_ = 0;
  bool really_mounted_ = false;
  bool forced_ = false;
  std::optional<Operation> operation_;
  std::optional<TimePoint> timer_;
};

TEST(LifeCycle, RandomHistoriesKeepTheInvariants) {
  for (std::uint32_t seed = 0; seed < 2000 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    for (int event = 0; event < 200; ++event) world.live_one_event();
    world.come_to_rest();
  }
}

TEST(LifeCycle, BackoffDoublesUpToItsLongestAndJitterAddsAtMostAQuarter) {
  EXPECT_EQ(backoff(1, 0), 1s);
  EXPECT_EQ(backoff(2, 0), 2s);
  EXPECT_EQ(backoff(3, 0), 4s);
  EXPECT_EQ(backoff(1000, 0), kLongestBackoff);
  EXPECT_GE(backoff(2, 0.999), 2s);
  EXPECT_LT(backoff(2, 0.999), 2500ms);
}

TEST(LifeCycle, FailureAfterFailureWaitsLonger) {
  const SharePolicy policy;
  State state;
  TimePoint now{};
  Duration last{};
  for (int i = 0; i < 4; ++i) {
    state = step(state, Wanted{}, policy, now).state;
    state = step(state, MountEnded{false, Error(EHOSTDOWN), 0}, policy, now).state;
    const auto& failed = std::get<Failed>(state);
    EXPECT_GT(failed.retry_at - now, last);
    last = failed.retry_at - now;
    now = failed.retry_at;
    state = step(state, Timer{}, policy, now).state;
    ASSERT_TRUE(std::holds_alternative<Idle>(state)) << "backoff over";
  }
}

}  // namespace
}  // namespace berth::manager::life_cycle
