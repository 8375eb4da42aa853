// Drain and resume: what Nova calls host_down and host_up.

#include <cerrno>
#include <utility>

#include "manager/engine/core.h"

namespace berth::manager {
namespace {

/// Callers of drain and resume that may wait at once.
constexpr std::size_t kMaxHostWaiters = 1024;

std::string told(const HostState& host) { return "generation " + std::to_string(host.generation()); }

Error refusal_of(const HostState& host) {
  return Error(ESHUTDOWN, "this host is drained (" + told(host) + "); `berth resume` gives shares out again");
}

}  // namespace

void Manager::Core::begin_host(const HostState& host) {
  host_ = host;
  drained_ = !host.up;
  refusal_ = refusal_of(host);
  publish_host();
}

void Manager::Core::drain(DoneCallback done) {
  if (stopping_) return answer(std::move(done), fail(ESHUTDOWN));
  if (drain_waiters_.size() >= kMaxHostWaiters) return answer(std::move(done), fail(EAGAIN));
  drain_waiters_.push_back(std::move(done));
  if (drained_ && resume_waiters_.empty()) {
    emit({.kind = Event::Kind::kWarning, .reason = "drain: the host is drained already (" + told(host_) + ")"});
    return check_drained();
  }
  answer_all(resume_waiters_, fail(ECANCELED, "a drain came after it"));
  told_drained_ = false;
  drained_ = true;
  change_host({.up = false, .next_generation = host_.next_generation, .since = clock_.wall_now()});
  emit({.kind = Event::Kind::kDraining,
        .reason = told(host_) + ", " + std::to_string(active_) + (active_ == 1 ? " share" : " shares") + " mounted"});
  update_shares_for_host();
  check_drained();
}

void Manager::Core::resume(DoneCallback done) {
  if (stopping_) return answer(std::move(done), fail(ESHUTDOWN));
  if (resume_waiters_.size() >= kMaxHostWaiters) return answer(std::move(done), fail(EAGAIN));
  if (host_.up) {
    emit({.kind = Event::Kind::kWarning,
          .reason = "resume: the host is up already (" + told(host_) + "); a new generation begins"});
    // Nothing new begins while this waits; nothing is let go either.
    host_.up = false;
    refusal_ = Error(ESHUTDOWN, "a new generation is about to begin; try again");
  }
  resume_waiters_.push_back(std::move(done));
  publish_host();
  check_resumed();
}

/// The new generation, when everything of the older ones has ended.
///
/// What a hypervisor has attached comes in as attachments (src/libvirt), before or after this.
void Manager::Core::check_resumed() {
  if (resume_waiters_.empty() || operations_under_way_ > 0) return;
  drained_ = false;
  change_host({.up = true, .next_generation = host_.next_generation + 1, .since = clock_.wall_now()});
  emit({.kind = Event::Kind::kResumed, .reason = told(host_)});
  answer_all(drain_waiters_, fail(ECANCELED, "a resume came after it"));
  update_shares_for_host();
  record_host(std::exchange(resume_waiters_, {}));
  start_restoring();
}

void Manager::Core::check_drained() {
  publish_host();
  if (!drained_ || active_ > 0 || operations_under_way_ > 0) return;
  if (!std::exchange(told_drained_, true)) emit({.kind = Event::Kind::kDrained, .reason = told(host_) + held_shares()});
  if (!drain_waiters_.empty()) record_host(std::exchange(drain_waiters_, {}));
}

void Manager::Core::change_host(const HostState& next) {
  host_ = next;
  refusal_ = refusal_of(next);
  if (setup_.on_host_change) setup_.on_host_change(host_);
  publish_host();
  // At once, whichever callers wait: after a crash the state is the requested one.
  record_host({});
}

/// Callers that wait are answered when the host's state is on disk. Where it cannot be written it is in force all the
/// same, and a warning reports that it will not outlive this berth.
void Manager::Core::record_host(std::vector<DoneCallback> done) {
  if (!setup_.store) return answer_all(done, {});
  ++recording_;
  auto work = [self = shared_from_this(), host = host_, done = std::move(done)]() mutable {
    Result<> result = self->setup_.store->commit(host);
    Core* core = self.get();
    core->post([core, done = std::move(done), result = std::move(result),
                repaired = self->setup_.store->take_repaired()]() mutable {
      --core->recording_;
      core->note_repaired(std::move(repaired));
      core->note_disk_failure(result);
      core->answer_all(done, {});
    });
  };
  submit(disk_.get(), std::move(work));
}

void Manager::Core::update_shares_for_host() {
  for (const auto& [share, record] : records_) feed(*share, life_cycle::HostStateChanged{});
}

void Manager::Core::answer_all(std::vector<DoneCallback>& waiters, const Result<>& result) {
  for (DoneCallback& done : std::exchange(waiters, {})) answer(std::move(done), result);
}

void Manager::Core::end_operation() {
  --operations_under_way_;
  publish_host();
  if (operations_under_way_ > 0) return;
  check_resumed();
  check_drained();
}

DoneCallback Manager::Core::count_operation(DoneCallback done) {
  return [use = Operation(*this), done = std::move(done)](Result<> result) mutable { done(std::move(result)); };
}

void Manager::Core::publish_host() {
  HostStatus status{.state = host_,
                    .is_draining = drained_ && (active_ > 0 || operations_under_way_ > 0),
                    .is_resuming = !resume_waiters_.empty()};
  MutexLock lock(mutex_);
  host_status_ = status;
}

HostStatus Manager::Core::host() const {
  MutexLock lock(mutex_);
  HostStatus status = host_status_;
  status.uses = operations_under_way_;
  return status;
}

}  // namespace berth::manager
