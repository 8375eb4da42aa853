#include "manager/engine/life_cycle.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/lib/base/text.h"
#include "src/lib/base/told.h"

namespace berth::manager::life_cycle {
namespace {

using Effects = std::vector<Effect>;

/// The story, which holds more than the errno that callers get; without one, the errno's words.

/// One step: what each state makes of each input. A pair that is not named leaves the state as it is.
class Stepper {
 public:
  Stepper(const SharePolicy& policy, TimePoint now, bool drained, bool may_abandon)
      : policy_(policy), now_(now), drained_(drained), may_abandon_(may_abandon) {}

  // Idle
  Step operator()(Idle, const LeaseWanted& wanted) const { return start_mount(1, wanted.reason); }
  Step operator()(Idle, const NativeWanted&) const { return start_mount(1, LeaseWanted{}.reason); }
  Step operator()(Idle state, const UnmountWanted&) const { return {state, {AnswerUnmount{Error(0)}}}; }

  // Mounting
  Step operator()(Mounting state, const LeaseWanted&) const {
    if (!state.overdue) return {state, {}};  // joins the mount that runs
    if (is_stuck(state) && now_ >= state.retry_at) return mount_beside(state);
    return {state, {FailWaiters{state.forced ? forced_error() : overdue_error()}}};
  }
  Step operator()(Mounting state, const NativeWanted&) const {
    if (is_stuck(state) && now_ >= state.retry_at) return mount_beside(state);
    return {state, {}};
  }
  Step operator()(Mounting state, const RetryWanted&) const {
    if (!state.overdue) return {state, {}};
    state.retry_at = now_;
    if (!is_stuck(state)) return {state, {}};
    return {Failed{0, now_, state.forced ? forced_error() : overdue_error()},
            {AbandonOperation{}, ClearTimer{}, AnswerUnmount{Error(0)}}};
  }
  Step operator()(Mounting state, const MountEnded& ended) const {
    if (ended.success && state.overdue) return undo(state, ended.jitter);
    if (ended.success) return mounted(state, ended);
    return failed(state, ended);
  }
  Step operator()(Mounting state, const Timer& timer) const {
    if (state.forced && is_stuck(state)) return given_up_by_force({AbandonOperation{}});
    if (state.forced) return {state, {AnswerUnmount{Error(ETIMEDOUT, "the attempt to mount it does not end")}}};
    if (state.overdue) return {state, {}};
    return give_up(state, backoff(state.attempt, timer.jitter), overdue_error());
  }
  Step operator()(Mounting state, const UnmountWanted& wanted) const {
    if (!wanted.force) return {state, {AnswerUnmount{Error(EBUSY, "it is being mounted")}}};
    Step step = state.overdue ? Step{state, {}} : give_up(state, {}, forced_error());
    auto& given_up = std::get<Mounting>(step.state);
    given_up.forced = true;
    given_up.retry_at = now_;
    given_up.stuck_at = now_ + kForcePatience;
    step.effects.insert(step.effects.end(), {HurryOperation{}, SetTimer{now_ + kForcePatience}});
    return step;
  }

  // Mounted
  Step operator()(Mounted state, const LeaseWanted&) const {
    if (state.draining) return {state, {FailWaiters{Error(ESHUTDOWN)}}};
    return {state, {AdmitWaiters{}}};
  }
  Step operator()(Mounted state, const Timer& timer) const {
    switch (state.native) {
      case Native::kOvermounting:
      case Native::kRemoving:
        return {state, {}};  // its end continues from there
      case Native::kOn:
        return look_at_native(std::move(state), timer);
      case Native::kOff:
      case Native::kNever:
        break;
    }
    if (state.unmount_until) return {state, {CloseGateIfIdle{}}};
    const TimePoint due = idle_at(state, timer);
    if (due > now_) return {state, {SetTimer{due}}};
    return {state, {CloseGateIfIdle{}}};
  }
  Step operator()(Mounted state, const NativeWanted&) const {
    if (!is_ready_to_overmount(state)) return {state, {}};
    state.native = Native::kOvermounting;
    return {std::move(state), {ClearTimer{}, Overmount{now_ + kNativePatience}}};
  }
  Step operator()(Mounted state, const BecameIdle&) const {
    if (state.native == Native::kOvermounting || state.native == Native::kRemoving || state.native == Native::kOn)
      return {state, {}};
    return {state, {SetTimer{now_ + kLinger}}};
  }
  Step operator()(Mounted state, const GateClosed&) const {
    if (state.stays && !state.unmount_until) {  // drained: it waits for the resume
      state.resting = true;
      return {state, {ClearTimer{}}};
    }
    std::string reason = "idle for " + format_duration(policy_.idle_timeout);
    if (state.draining) reason = "drained";
    if (state.unmount_until) reason = "asked to";
    return start_unmount(state, false, std::move(reason));
  }
  Step operator()(Mounted state, const GateInUse& use) const {
    if (state.unmount_until && now_ < *state.unmount_until) return {state, {SetTimer{now_ + kReleaseRetry}}};
    Effects effects{SetTimer{now_ + patience_with_users()}};
    if (state.unmount_until) effects.emplace_back(in_use(use.users));
    state.unmount_until.reset();
    return {state, std::move(effects)};
  }
  Step operator()(Mounted state, const UnmountWanted& wanted) const {
    if (wanted.force) return take_away(std::move(state), "forced");
    state.unmount_until = now_ + kReleasePatience;
    switch (state.native) {
      case Native::kOvermounting:
      case Native::kRemoving:
        return {state, {}};
      case Native::kOn:
        return {state, {SetTimer{now_}}};
      case Native::kOff:
      case Native::kNever:
        break;
    }
    return {state, {CloseGateIfIdle{}}};
  }
  Step operator()(Mounted state, const HostStateChanged&) const {
    if (state.draining == drained_) return {state, {}};
    state.draining = drained_;
    state.resting = false;
    Effects effects;
    if (drained_) {
      effects.emplace_back(CloseGate{});
      state.check_native_at = now_;
    } else {
      effects.emplace_back(ReopenGate{});
    }
    const TimePoint due = state.unmount_until || state.native == Native::kOn ? now_ + kReleaseRetry : now_ + patience();
    effects.emplace_back(SetTimer{due});
    return {state, std::move(effects)};
  }
  Step operator()(Mounted state, const MountLost& lost) const {
    state.dead = lost.is_dead;
    state.moves = lost.moves;
    state.wanted = lost.users > 0 && (lost.moves || policy_.on_stale == OnStale::kRemount) && !drained_;
    Step step = take_away(std::move(state), "lost");
    step.effects.insert(step.effects.begin(), Emit{Event::Kind::kLost, 0, {}, lost.reason});
    return step;
  }
  Step operator()(Mounted state, const Silent& silent) const {
    if (state.stalled) return {std::move(state), {}};
    state.stalled = now_;
    return {std::move(state), {Emit{Event::Kind::kStalled, 0, {}, silent.reason}}};
  }
  Step operator()(Mounted state, const Answered&) const {
    if (!state.stalled) return {std::move(state), {}};
    const Duration took = now_ - *std::exchange(state.stalled, std::nullopt);
    return {std::move(state), {Emit{Event::Kind::kAnswers, 0, took, ""}}};
  }
  Step operator()(Mounted state, const OvermountDone& overmounted) const {
    if (state.native != Native::kOvermounting) return {state, {}};
    Effects effects;
    Duration look = patience();
    state.with_berth = overmounted.error.code() == 0 ? "" : told(overmounted.error);
    switch (overmounted.error.code()) {
      case 0:
        state.native = Native::kOn;
        look = look_again();
        state.check_native_at = now_ + look;
        state.marked_expired = false;
        effects.emplace_back(Emit{Event::Kind::kNative});
        break;
      case EAGAIN:
      case EBUSY:
        state.native = Native::kOff;
        break;
      default:
        state.native = Native::kNever;
        effects.emplace_back(
            Emit{Event::Kind::kWarning, 0, {}, "goes on through berth, not native: " + state.with_berth});
    }
    const TimePoint due = state.unmount_until ? now_ : now_ + look;
    return go_on(std::move(state), due, std::move(effects));
  }
  Step operator()(Mounted state, const OvermountRemoved& taken) const {
    if (state.native != Native::kRemoving) return {state, {}};
    using Outcome = NativeAccess::Outcome;
    const bool known = taken.error.code() == 0;
    if (known && taken.outcome == Outcome::kOff) return taken_off(std::move(state), taken.wanted);
    Effects effects;
    if (!known) effects.emplace_back(Emit{Event::Kind::kUnmountFailed, 0, {}, told(taken.error), taken.error.code()});
    state.native = Native::kOn;
    state.marked_expired = known && taken.outcome == Outcome::kTouched;
    state.check_native_at = now_ + (!known                 ? std::max<Duration>(patience(), kBusyRetry)
                                    : state.marked_expired ? patience()
                                                           : look_again());
    TimePoint due = state.check_native_at;
    if (state.unmount_until && !state.marked_expired) {
      if (known && now_ < *state.unmount_until) {
        due = now_ + kReleaseRetry;
      } else {
        effects.emplace_back(
            AnswerUnmount{known ? Error(EBUSY, "in use by programs that are in it natively") : taken.error});
        state.unmount_until.reset();
      }
    } else if (state.unmount_until) {
      due = now_;
    }
    return go_on(std::move(state), due, std::move(effects));
  }

  // Expiring
  Step operator()(Expiring state, const LeaseWanted&) const {
    if (state.undo) return {state, {FailWaiters{overdue_error()}}};
    if (state.stale) return {state, {FailWaiters{stale_error()}}};
    state.wanted_again = true;
    return {state, {}};
  }
  Step operator()(Expiring state, const NativeWanted&) const {
    state.wanted_again = state.wanted_again || !(state.undo || state.stale);
    return {state, {}};
  }
  Step operator()(Expiring state, const UnmountEnded& ended) const {
    const Duration took = now_ - state.started;
    if (!ended.success && state.force == Force::kWanted) return follow_by_force(state, Force::kUsed);
    if (!ended.success) return still_mounted(state, ended.error, took);
    Step next = state.wanted_again ? start_mount(1, "wanted again while unmounting")
                                   : Step{after_unmount(state), {ClearTimer{}}};
    if (auto* fail = std::get_if<Failed>(&next.state)) next.effects = {SetTimer{fail->retry_at}};
    next.effects.insert(next.effects.begin(), {Emit{Event::Kind::kUnmounted, 0, took, ""}, AnswerUnmount{Error(0)}});
    return next;
  }
  Step operator()(Expiring state, const UnmountWanted& wanted) const {  // answered when it has ended
    if (!wanted.force || state.force != Force::kNo) return {state, {}};
    state.force = Force::kWanted;
    state.wanted_again = false;
    return {state, {FailWaiters{forced_error()}, HurryOperation{}, SetTimer{now_ + kForcePatience}}};
  }
  Step operator()(Expiring state, const Timer&) const {
    if (state.force != Force::kWanted && state.force != Force::kUsed) return {state, {}};
    Step step = follow_by_force(state, Force::kBeside);
    step.effects.insert(step.effects.begin(), AbandonOperation{});
    return step;
  }

  // Failed
  Step operator()(Failed state, const LeaseWanted&) const {
    if (now_ < state.retry_at) return {state, {FailWaiters{state.error}}};
    return start_mount(state.attempts + 1, "tried again");
  }
  Step operator()(Failed state, const NativeWanted&) const {
    if (now_ < state.retry_at) return {state, {}};
    return start_mount(state.attempts + 1, "tried again");
  }
  Step operator()(Failed state, const RetryWanted&) const {
    state.attempts = 0;
    state.retry_at = now_;
    return {state, {ClearTimer{}}};
  }
  Step operator()(Failed state, const UnmountWanted&) const { return {state, {AnswerUnmount{Error(0)}}}; }

  template <typename S, typename H>
  Step operator()(const S& state, const H&) const {
    return {state, {}};
  }

 private:
  /// No caller waits for the mount any more. What it still makes is undone.
  [[nodiscard]] Step give_up(Mounting state, Duration pause, const Error& why) const {
    state.overdue = true;
    state.retry_at = now_ + pause;
    state.stuck_at = now_ + kForcePatience;
    Emit failed{Event::Kind::kMountFailed, state.attempt, now_ - state.started, told(why), why.code()};
    return {state, {ClearTimer{}, FailWaiters{why}, std::move(failed)}};
  }
  /// Its deadline is over, or it was told to end, and it has not come back.
  [[nodiscard]] bool is_stuck(const Mounting& state) const {
    return state.overdue && now_ >= state.stuck_at && may_abandon_;
  }
  [[nodiscard]] Step mount_beside(const Mounting& stuck) const {
    Step step = start_mount(stuck.forced ? 1 : stuck.attempt + 1, "beside an attempt that does not end");
    step.effects.insert(step.effects.begin(), {AbandonOperation{}, AnswerUnmount{Error(0)}});
    return step;
  }
  /// Not idle at once: callers that the attempt has held up would begin the next one.
  [[nodiscard]] Step given_up_by_force(Effects effects) const {
    Failed given_up{0, now_ + kFirstBackoff, forced_error()};
    effects.insert(effects.end(), {SetTimer{given_up.retry_at}, AnswerUnmount{Error(0)}});
    return {std::move(given_up), std::move(effects)};
  }
  /// When a share is due that no caller comes to any more.
  [[nodiscard]] TimePoint idle_at(const Mounted& state, const Timer& timer) const {
    if (state.stays && !drained_) return now_ + kLongestLook;
    return timer.users > 0 ? now_ + patience_with_users() : timer.last_left + patience();
  }

  [[nodiscard]] static AnswerUnmount in_use(std::uint64_t users) {
    return {Error(EBUSY, "in use by " + std::to_string(users) + (users == 1 ? " user" : " users"))};
  }

  [[nodiscard]] Duration look_again() const {
    return is_to_go_at_once() ? Duration(kDrainLook)
                              : std::clamp<Duration>(patience() / 4, kShortestLook, kLongestLook);
  }

  [[nodiscard]] Step remove_overmount(Mounted state, NativeAccess::When when) const {
    state.native = Native::kRemoving;
    return {std::move(state), {ClearTimer{}, RemoveOvermount{when, now_ + kNativePatience}}};
  }

  /// The overmount is removed only when no caller uses the share through berth either, so that it does not go back and
  /// forth.
  [[nodiscard]] Step look_at_native(Mounted state, const Timer& timer) const {
    if (state.unmount_until) {
      if (timer.users == 0) return remove_overmount(std::move(state), NativeAccess::When::kUnused);
      if (now_ < *state.unmount_until) return {state, {SetTimer{now_ + kReleaseRetry}}};
      state.unmount_until.reset();
      return {state, {in_use(timer.users), SetTimer{std::max(state.check_native_at, now_)}}};
    }
    if (now_ < state.check_native_at) return {state, {SetTimer{state.check_native_at}}};
    // It does not come back, and users that are inside through berth need no door.
    if (state.draining) return remove_overmount(std::move(state), NativeAccess::When::kUnused);
    const TimePoint due = idle_at(state, timer);
    if (state.stays || (state.marked_expired && due > now_)) return {state, {SetTimer{due}}};
    return remove_overmount(std::move(state), NativeAccess::When::kUntouched);
  }

  /// If a user is inside through berth by now, or is about to come in, it stays mounted.
  [[nodiscard]] Step taken_off(Mounted state, bool wanted) const {
    state.native = Native::kOff;
    Step step = go_on(std::move(state), now_ + patience(), {Emit{Event::Kind::kProxied}});
    const auto* const mounted = std::get_if<Mounted>(&step.state);
    if (mounted == nullptr) return step;
    const bool is_to_go = mounted->unmount_until || drained_;
    if (is_to_go || (!mounted->stays && !wanted)) step.effects.emplace_back(CloseGateIfIdle{});
    return step;
  }

  /// After an operation of native access: looks again at `due`, or does what has been wanted meanwhile.
  [[nodiscard]] Step go_on(Mounted state, TimePoint due, Effects effects) const {
    if (state.forced.empty()) {
      effects.emplace_back(SetTimer{due});
      return {std::move(state), std::move(effects)};
    }
    std::string reason = std::exchange(state.forced, "");
    Step step = take_away(std::move(state), std::move(reason));
    step.effects.insert(step.effects.begin(), effects.begin(), effects.end());
    return step;
  }

  /// Forced: at once, or as soon as the operation that runs has ended.
  [[nodiscard]] Step take_away(Mounted state, std::string reason) const {
    if (state.native == Native::kOvermounting || state.native == Native::kRemoving) {
      state.forced = std::move(reason);
      return {std::move(state), {}};
    }
    Step step = start_unmount(state, true, std::move(reason));
    step.effects.insert(step.effects.begin(), CloseGate{});
    return step;
  }

  /// How long a share stays that is not in use.
  [[nodiscard]] Duration patience() const {
    return drained_ ? kLinger : std::max<Duration>(policy_.idle_timeout, kLinger);
  }
  /// The last user that leaves one that is to go at once is reported (LeaveListener).
  [[nodiscard]] bool is_to_go_at_once() const { return drained_ || policy_.idle_timeout.count() == 0; }
  /// When to look again at one that is in use.
  [[nodiscard]] Duration patience_with_users() const { return is_to_go_at_once() ? kBusyRetry : patience(); }

  /// Mounted, and the callers that waited for it are inside.
  [[nodiscard]] Step let_in(Mounted next, Effects before, Duration look_again) const {
    next.draining = drained_;
    before.insert(before.end(), {OpenGate{}, AdmitWaiters{}});
    if (drained_) before.emplace_back(CloseGate{});
    before.emplace_back(SetTimer{now_ + look_again});
    return {std::move(next), std::move(before)};
  }

  [[nodiscard]] static Error forced_error() { return Error(ECONNABORTED, "given up by a forced unmount"); }

  [[nodiscard]] static Error stale_error() {
    return Error(ESTALE, "its mount was dead, and on_stale = \"error\": retry has it mounted again");
  }

  [[nodiscard]] Error overdue_error() const {
    return Error(ETIMEDOUT, "no mount after " + format_duration(policy_.mount_timeout) + " (mount_timeout)");
  }

  [[nodiscard]] Step start_mount(std::uint32_t attempt, std::string reason) const {
    const TimePoint deadline = now_ + policy_.mount_timeout;
    return {Mounting{.attempt = attempt, .started = now_},
            {Emit{Event::Kind::kMounting, attempt, {}, std::move(reason)}, SetTimer{deadline},
             StartMount{attempt, deadline}}};
  }

  [[nodiscard]] Step mounted(const Mounting& state, const MountEnded& ended) const {
    Mounted next = mounted_now(ended.native, ended.stays);
    if (ended.lies_over) next.native = Native::kOn;
    next.check_native_at = now_;
    return let_in(std::move(next), {Emit{Event::Kind::kMounted, state.attempt, now_ - state.started, ""}}, patience());
  }

  [[nodiscard]] Mounted mounted_now(bool native, bool stays) const {
    return {.since = now_, .stays = stays, .native = native ? Native::kOff : Native::kNever};
  }

  [[nodiscard]] Step failed(const Mounting& state, const MountEnded& ended) const {
    if (state.forced) return given_up_by_force({});
    if (state.overdue) {  // reported when it became overdue; now its thread is back
      return {Failed{state.attempt, state.retry_at, overdue_error()}, {SetTimer{state.retry_at}}};
    }
    const TimePoint retry_at = now_ + backoff(state.attempt, ended.jitter);
    return {
        Failed{state.attempt, retry_at, ended.error},
        {Emit{Event::Kind::kMountFailed, state.attempt, now_ - state.started, told(ended.error), ended.error.code()},
         FailWaiters{ended.error}, SetTimer{retry_at}}};
  }

  [[nodiscard]] Step undo(const Mounting& state, double jitter) const {
    Step step = start_unmount({}, true, state.forced ? "forced" : "mounted after its mount_timeout");
    std::get<Expiring>(step.state).undo = !state.forced;
    std::get<Expiring>(step.state).failed_attempts = state.attempt;
    std::get<Expiring>(step.state).jitter = jitter;
    return step;
  }

  [[nodiscard]] Step start_unmount(const Mounted& state, bool force, std::string reason) const {
    // What is native must not be mounted again before the overmount is gone.
    const bool is_bounded = force && state.native != Native::kOn;
    return {Expiring{.started = now_,
                     .force = force ? Force::kUsed : Force::kNo,
                     .wanted_again = state.wanted,
                     .stale = state.dead && !state.moves && policy_.on_stale == OnStale::kError,
                     .native = state.native != Native::kNever,
                     .stays = state.stays},
            {Emit{Event::Kind::kUnmounting, 0, {}, std::move(reason)},
             is_bounded ? Effect(SetTimer{now_ + kForcePatience}) : Effect(ClearTimer{}),
             StartUnmount{force, now_ + policy_.unmount_timeout, state.native == Native::kOn, state.dead}}};
  }

  /// After an unmount that has failed, or beside one that does not end.
  [[nodiscard]] Step follow_by_force(Expiring state, Force force) const {
    state.force = force;
    return {state,
            {Emit{Event::Kind::kUnmounting, 0, {}, "forced"}, SetTimer{now_ + kForcePatience},
             StartUnmount{.force = true, .deadline = now_}}};
  }

  [[nodiscard]] Step still_mounted(const Expiring& state, const Error& error, Duration took) const {
    return let_in(mounted_now(state.native, state.stays),
                  {Emit{Event::Kind::kUnmountFailed, 0, took, told(error), error.code()}, AnswerUnmount{error}},
                  std::max<Duration>(patience(), kBusyRetry));
  }

  [[nodiscard]] State after_unmount(const Expiring& state) const {
    if (state.stale) return Failed{0, now_ + kUntilRetry, stale_error()};
    if (!state.undo) return Idle{};
    return Failed{state.failed_attempts, now_ + backoff(state.failed_attempts, state.jitter), overdue_error()};
  }

  const SharePolicy& policy_;
  TimePoint now_;
  bool drained_;
  bool may_abandon_;
};

}  // namespace

ShareState name_of(const State& state) noexcept {
  struct Names {
    ShareState operator()(const Idle&) const { return ShareState::kIdle; }
    ShareState operator()(const Mounting& m) const { return m.overdue ? ShareState::kFailed : ShareState::kMounting; }
    ShareState operator()(const Mounted& m) const {
      if (m.draining) return ShareState::kDraining;
      return m.stalled ? ShareState::kStalled : ShareState::kMounted;
    }
    ShareState operator()(const Expiring&) const { return ShareState::kExpiring; }
    ShareState operator()(const Failed&) const { return ShareState::kFailed; }
  };
  return std::visit(Names{}, state);
}

bool is_active(const State& state) noexcept {
  if (const auto* const mounted = std::get_if<Mounted>(&state)) return !mounted->resting;
  return !std::holds_alternative<Idle>(state) && !std::holds_alternative<Failed>(state);
}

bool is_ready_to_overmount(const State& state) noexcept {
  const auto* const mounted = std::get_if<Mounted>(&state);
  return mounted != nullptr && mounted->native == Native::kOff && !mounted->unmount_until && !mounted->draining;
}

bool may_get_ready_to_overmount(const State& state) noexcept {
  struct May {
    bool operator()(const Idle&) const { return false; }
    bool operator()(const Mounting& m) const { return !m.overdue; }
    bool operator()(const Mounted& m) const {
      return m.native == Native::kOvermounting || m.native == Native::kRemoving;
    }
    bool operator()(const Expiring& e) const { return e.wanted_again; }
    bool operator()(const Failed&) const { return false; }
  };
  return std::visit(May{}, state);
}

Duration backoff(std::uint32_t attempts, double jitter) {
  const std::uint32_t doublings = std::min<std::uint32_t>(attempts == 0 ? 0 : attempts - 1, 16);
  const std::chrono::milliseconds wait = std::min(kLongestBackoff, kFirstBackoff * (1 << doublings));
  return wait / 2 +
         std::chrono::milliseconds(static_cast<std::int64_t>(static_cast<double>(wait.count()) * jitter / 2));
}

Step step(const State& state, const Input& happening, const SharePolicy& policy, TimePoint now, bool drained,
          bool may_abandon) {
  return std::visit(Stepper(policy, now, drained, may_abandon), state, happening);
}

}  // namespace berth::manager::life_cycle
