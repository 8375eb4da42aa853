#include "manager/life_cycle.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/base/text.h"

namespace berth::manager::life_cycle {
namespace {

using Effects = std::vector<Effect>;

/// The story, which says more than the errno that callers get; without one, the errno's words.
std::string told(const Error& error) { return error.story().empty() ? error.message() : std::string(error.story()); }

/// One step: what each state makes of each happening. A pair that is not named leaves the state as it is.
class Stepper {
 public:
  Stepper(const SharePolicy& policy, TimePoint now) : policy_(policy), now_(now) {}

  // Idle
  Step operator()(Idle state, const Wanted&) const { return start_mount(state.failed_attempts + 1, "first access"); }
  Step operator()(Idle, const RetryWanted&) const { return {Idle{}, {}}; }
  Step operator()(Idle state, const UnmountWanted&) const { return {state, {AnswerUnmount{Error(0)}}}; }

  // Mounting
  Step operator()(Mounting state, const Wanted&) const {
    if (!state.overdue) return {state, {}};  // joins the mount that runs
    return {state, {FailWaiters{overdue_error()}}};
  }
  Step operator()(Mounting state, const MountEnded& ended) const {
    if (ended.success && state.overdue) return undo(state);
    if (ended.success) return mounted(state);
    return failed(state, ended);
  }
  Step operator()(Mounting state, const Timer&) const {
    if (state.overdue) return {state, {}};
    state.overdue = true;
    state.retry_at = now_ + backoff(state.attempt, 0);
    return {state,
            {ClearTimer{}, FailWaiters{overdue_error()},
             Tell{Event::Kind::kMountFailed, state.attempt, now_ - state.started, told(overdue_error())}}};
  }
  Step operator()(Mounting state, const UnmountWanted&) const {
    return {state, {AnswerUnmount{Error(EBUSY, "it is being mounted")}}};
  }

  // Mounted
  Step operator()(Mounted state, const Wanted&) const { return {state, {AdmitWaiters{}}}; }
  Step operator()(Mounted state, const Timer& timer) const {
    if (state.unmount_until) return {state, {CloseGateIfIdle{}}};
    if (timer.users > 0) return {state, {SetTimer{now_ + patience()}}};
    const TimePoint due = timer.last_left + patience();
    if (due > now_) return {state, {SetTimer{due}}};
    return {state, {CloseGateIfIdle{}}};
  }
  Step operator()(Mounted state, const BecameIdle&) const { return {state, {SetTimer{now_ + kLinger}}}; }
  Step operator()(Mounted state, const GateClosed&) const {
    const std::string reason = state.unmount_until ? "asked to" : "idle for " + format_duration(policy_.idle_timeout);
    return start_unmount(false, reason);
  }
  Step operator()(Mounted state, const GateInUse& use) const {
    if (state.unmount_until && now_ < *state.unmount_until) return {state, {SetTimer{now_ + kReleaseRetry}}};
    Effects effects{SetTimer{now_ + patience()}};
    if (state.unmount_until) {
      effects.emplace_back(AnswerUnmount{
          Error(EBUSY, "in use by " + std::to_string(use.users) + (use.users == 1 ? " user" : " users"))});
    }
    state.unmount_until.reset();
    return {state, std::move(effects)};
  }
  Step operator()(Mounted state, const UnmountWanted& wanted) const {
    if (wanted.force) {
      Step step = start_unmount(true, "forced");
      step.effects.insert(step.effects.begin(), CloseGate{});
      return step;
    }
    state.unmount_until = now_ + kReleasePatience;
    return {state, {CloseGateIfIdle{}}};
  }
  Step operator()(Mounted, const Lost& lost) const {
    Step step = start_unmount(true, "lost");
    step.effects.insert(step.effects.begin(), {CloseGate{}, Tell{Event::Kind::kLost, 0, {}, lost.reason}});
    return step;
  }

  // Expiring
  Step operator()(Expiring state, const Wanted&) const {
    if (state.undo) return {state, {FailWaiters{overdue_error()}}};
    state.wanted_again = true;
    return {state, {}};
  }
  Step operator()(Expiring state, const UnmountEnded& ended) const {
    const Duration took = now_ - state.started;
    if (!ended.success) return still_mounted(ended.error, took);
    Step next = state.wanted_again ? start_mount(1, "wanted again while unmounting")
                                   : Step{after_unmount(state), {ClearTimer{}}};
    if (auto* fail = std::get_if<Failed>(&next.state)) next.effects = {SetTimer{fail->retry_at}};
    next.effects.insert(next.effects.begin(), {Tell{Event::Kind::kUnmounted, 0, took, ""}, AnswerUnmount{Error(0)}});
    return next;
  }
  Step operator()(Expiring state, const UnmountWanted&) const { return {state, {}}; }  // answered when it has ended

  // Failed
  Step operator()(Failed state, const Wanted&) const {
    if (now_ < state.retry_at) return {state, {FailWaiters{state.error}}};
    return start_mount(state.attempts + 1, "tried again");
  }
  Step operator()(Failed state, const Timer&) const { return {Idle{state.attempts}, {ClearTimer{}}}; }
  Step operator()(Failed, const RetryWanted&) const { return {Idle{}, {ClearTimer{}}}; }
  Step operator()(Failed state, const UnmountWanted&) const { return {state, {AnswerUnmount{Error(0)}}}; }

  template <typename S, typename H>
  Step operator()(const S& state, const H&) const {
    return {state, {}};
  }

 private:
  [[nodiscard]] Duration patience() const { return std::max<Duration>(policy_.idle_timeout, kLinger); }

  [[nodiscard]] Error overdue_error() const {
    return Error(ETIMEDOUT, "no mount after " + format_duration(policy_.mount_timeout) + " (mount_timeout)");
  }

  [[nodiscard]] Step start_mount(std::uint32_t attempt, std::string reason) const {
    const TimePoint deadline = now_ + policy_.mount_timeout;
    return {Mounting{attempt, now_, false, {}},
            {Tell{Event::Kind::kMounting, attempt, {}, std::move(reason)}, SetTimer{deadline},
             StartMount{attempt, deadline}}};
  }

  [[nodiscard]] Step mounted(const Mounting& state) const {
    return {Mounted{now_},
            {Tell{Event::Kind::kMounted, state.attempt, now_ - state.started, ""}, OpenGate{}, AdmitWaiters{},
             SetTimer{now_ + patience()}}};
  }

  [[nodiscard]] Step failed(const Mounting& state, const MountEnded& ended) const {
    if (state.overdue) {  // told when it became overdue; now its thread is back
      return {Failed{state.attempt, state.retry_at, overdue_error()}, {SetTimer{state.retry_at}}};
    }
    const TimePoint retry_at = now_ + backoff(state.attempt, ended.jitter);
    return {Failed{state.attempt, retry_at, ended.error},
            {Tell{Event::Kind::kMountFailed, state.attempt, now_ - state.started, told(ended.error)},
             FailWaiters{ended.error}, SetTimer{retry_at}}};
  }

  [[nodiscard]] Step undo(const Mounting& state) const {
    Step step = start_unmount(true, "mounted after its mount_timeout");
    std::get<Expiring>(step.state).undo = true;
    std::get<Expiring>(step.state).failed_attempts = state.attempt;
    return step;
  }

  [[nodiscard]] Step start_unmount(bool force, std::string reason) const {
    return {Expiring{.started = now_},
            {Tell{Event::Kind::kUnmounting, 0, {}, std::move(reason)}, ClearTimer{},
             StartUnmount{force, now_ + policy_.unmount_timeout}}};
  }

  [[nodiscard]] Step still_mounted(const Error& error, Duration took) const {
    return {Mounted{now_},
            {Tell{Event::Kind::kUnmountFailed, 0, took, told(error)}, OpenGate{}, AdmitWaiters{}, AnswerUnmount{error},
             SetTimer{now_ + std::max<Duration>(policy_.idle_timeout, kBusyRetry)}}};
  }

  [[nodiscard]] State after_unmount(const Expiring& state) const {
    if (!state.undo) return Idle{};
    return Failed{state.failed_attempts, now_ + backoff(state.failed_attempts, 0), overdue_error()};
  }

  const SharePolicy& policy_;
  TimePoint now_;
};

}  // namespace

ShareState name_of(const State& state) noexcept {
  struct Names {
    ShareState operator()(const Idle&) const { return ShareState::kIdle; }
    ShareState operator()(const Mounting& m) const { return m.overdue ? ShareState::kFailed : ShareState::kMounting; }
    ShareState operator()(const Mounted&) const { return ShareState::kMounted; }
    ShareState operator()(const Expiring&) const { return ShareState::kExpiring; }
    ShareState operator()(const Failed&) const { return ShareState::kFailed; }
  };
  return std::visit(Names{}, state);
}

Duration backoff(std::uint32_t attempts, double jitter) {
  const std::uint32_t doublings = std::min<std::uint32_t>(attempts == 0 ? 0 : attempts - 1, 16);
  const std::chrono::milliseconds wait = std::min(kLongestBackoff, kFirstBackoff * (1 << doublings));
  return wait + std::chrono::milliseconds(static_cast<std::int64_t>(static_cast<double>(wait.count()) * jitter / 4));
}

Step step(const State& state, const Happening& happening, const SharePolicy& policy, TimePoint now) {
  return std::visit(Stepper(policy, now), state, happening);
}

}  // namespace berth::manager::life_cycle
