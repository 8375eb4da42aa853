#include "manager/engine/core.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "src/lib/sys/file.h"

namespace berth::manager {
namespace {

/// Threads that may be stuck in the kernel at once, for operations and for what users do with an answer. A share has
/// one operation at a time, and few that are stuck, and its users bound what they do in one share: dead servers must
/// not take the last thread from the other shares.
constexpr std::size_t kMaxOperationThreads = 4096;
constexpr std::size_t kMaxCallbackThreads = 4096;
/// The same for threads that ask whether a share answers.
constexpr std::size_t kMaxProbeThreads = 1024;
/// And for threads that ask whether a source is there.
constexpr std::size_t kMaxLookUpThreads = 64;

/// After a change of the mount table, how long to wait before looking for lost mounts: changes come in bursts.
constexpr std::chrono::milliseconds kTableDelay{200};

void bring_forward(std::optional<TimePoint>& next, const std::optional<TimePoint>& at) noexcept {
  if (at && (!next || *at < *next)) next = at;
}

}  // namespace

Result<std::shared_ptr<Manager::Core>> Manager::Core::make(ManagerSetup setup, const Catalog& catalog,
                                                           const Clock& clock) {
  sys::Poller poller = TRY(sys::Poller::make());
  std::shared_ptr<Core> core(new Core(std::move(setup), clock, std::move(poller)));
  TRY_VOID(core->begin_catalog_with(catalog));
  core->begin_host(core->setup_.host);
  core->cancel_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!core->cancel_) return fail_errno();
  if (!core->manual()) {
    core->mount_table_ = TRY(sys::open_at(AT_FDCWD, "/proc/thread-self/mountinfo", O_RDONLY));
    TRY_VOID(core->poller_.add(core->mount_table_.get(), EPOLLPRI | EPOLLERR | EPOLLET, kMountTableTag));
    TRY_VOID(core->watch_sources());
    core->operations_ = std::make_unique<sys::TaskPool>("berth-mount", kMaxOperationThreads);
    core->callbacks_ = std::make_unique<sys::TaskPool>("berth-resume", kMaxCallbackThreads);
    core->probes_ = std::make_unique<sys::TaskPool>("berth-probe", kMaxProbeThreads);
    core->look_up_pool_ = std::make_unique<sys::TaskPool>("berth-look-up", kMaxLookUpThreads);
    if (core->setup_.store) {
      core->disk_ = std::make_unique<sys::TaskPool>("berth-state", 1);
    }
  }
  if (core->setup_.store && !core->setup_.store_ends_with_berth) {
    MutexLock lock(core->mutex_);
    core->report_.directory = core->setup_.store->path();
  }
  return core;
}

Manager::Core::Core(ManagerSetup setup, const Clock& clock, sys::Poller poller)
    : setup_(std::move(setup)),
      clock_(clock),
      berths_(setup_.berth_directory, setup_.groups),
      catalog_log_(setup_.kept != nullptr ? &setup_.kept->catalog : nullptr),
      instances_(setup_.instances),
      poller_(std::move(poller)),
      mount_slots_(std::max<std::size_t>(setup_.max_concurrent_mounts, 1),
                   std::max<std::size_t>(setup_.max_mounts_per_server, 1)),
      random_(std::random_device{}()) {
  for (std::size_t slot = 0; slot < stray_look_ups_.size(); ++slot) free_look_ups_.push_back(slot);
}

Manager::Core::~Core() {
  // Leases that are left (attachments, answers that no caller took) report their end by a command: while there is a
  // queue.
  for (const auto& [share, record] : records_) {
    record->attachments.clear();
    record->pending_attachments.clear();
    record->required.clear();
    end_gathering(*record);
  }
  pending_changes_.clear();
  drain_waiters_.clear();
  resume_waiters_.clear();
  manual_work_.clear();
  for (bool any = true; any;) {
    std::vector<Task> commands;
    {
      MutexLock lock(mutex_);
      commands.swap(commands_);
    }
    any = !commands.empty();
  }
}

void Manager::Core::run() {
  while (!quit_) {
    run_commands();
    run_timers();
    if (quit_) return;
    const Result<std::span<const sys::Poller::Ready>> ready = poller_.wait(next_deadline());
    if (!ready) continue;  // interrupted; epoll on berth's own descriptors has no other way to fail
    for (const sys::Poller::Ready& one : *ready) on_ready(one);
  }
}

bool Manager::Core::run_pending() {
  bool any = false;
  for (bool again = true; again;) {
    again = run_commands();
    again = run_timers() || again;
    while (!manual_work_.empty()) {
      Task work = std::move(manual_work_.front());
      manual_work_.pop_front();
      work();
      again = true;
    }
    any = any || again;
  }
  return any;
}

void Manager::Core::post(Task command) {
  bool wake = false;
  {
    MutexLock lock(mutex_);
    wake = commands_.empty();
    commands_.push_back(std::move(command));
  }
  if (wake) poller_.wake();
}

void Manager::Core::on_left(Share& share) noexcept {
  post([this, &share] {
    Record& record = record_of(share);
    collect_retired(record);
    const bool goes_at_once = share.spec().policy().idle_timeout.count() == 0 || share.standing() != Standing::kCurrent;
    if (drained_ || (goes_at_once && !share.gate().closed())) feed(share, life_cycle::BecameIdle{});
    if (share.is_removed()) look_at_removed_at_ = clock_.now();
    unmount_if_pending(record);
  });
}

/// At once when no program is in it: programs that come back every few milliseconds would keep the old mount for ever.
void Manager::Core::unmount_if_pending(Record& record) {
  Share& share = record.share;
  if (record.pending && share.users() == 0 && !share.gate().closed() && !is_left_native(record))
    feed(share, life_cycle::UnmountWanted{false});
}

bool Manager::Core::run_commands() {
  std::vector<Task> commands;
  {
    MutexLock lock(mutex_);
    commands.swap(commands_);
  }
  for (Task& command : commands) command();
  return !commands.empty();
}

void Manager::Core::feed(Share& share, const life_cycle::Input& happening) {
  Record& record = record_of(share);
  apply(record, step_of(record, happening));
}

Manager::Core::Record& Manager::Core::record_of(Share& share) {
  std::unique_ptr<Record>& record = records_[&share];
  if (!record) {
    record = std::make_unique<Record>(share);
    record->since = clock_.wall_now();
  }
  return *record;
}

void Manager::Core::apply(Record& record, life_cycle::Step step) {
  ++steps_;
  if (life_cycle::name_of(step.state) != life_cycle::name_of(record.state)) record.since = clock_.wall_now();
  if (life_cycle::is_active(record.state)) --active_;
  const auto* const expiring = std::get_if<life_cycle::Expiring>(&record.state);
  const auto* const failed = std::get_if<life_cycle::Failed>(&step.state);
  if (expiring != nullptr && expiring->stale && failed != nullptr)
    record.last_failure = FailureReport{.when = clock_.wall_now(), .failure = {.error = failed->error}};
  record.state = std::move(step.state);
  if (life_cycle::is_active(record.state)) ++active_;
  // Before any answer: a caller that is answered that a share is mounted must find it so. And after, for callers that
  // wait no more.
  publish(record);
  for (life_cycle::Effect& effect : step.effects) perform(record, effect);
  const bool is_gone = std::holds_alternative<life_cycle::Idle>(record.state) ||
                       std::holds_alternative<life_cycle::Failed>(record.state);
  if (is_gone) hold(record, {});
  publish(record);
  keep_last_failure(record);
  if (--steps_ == 0) {
    update_native_waiters(record);
    if (record.share.standing() != Standing::kCurrent) look_at_leaving(record);
  }
  schedule(record);
  if (drained_ && active_ == 0) check_drained();
}

void Manager::Core::perform(Record& record, life_cycle::Effect& effect) {
  using namespace life_cycle;
  struct Perform {
    Core& core;
    Record& record;
    void operator()(StartMount& start) const { core.begin_mount(record, start); }
    void operator()(StartUnmount& start) const { core.start_unmount(record, start); }
    void operator()(OpenGate&) const { core.open_gate(record); }
    void operator()(ReopenGate&) const {
      record.share.touch(core.clock_.now());
      record.share.gate().open();
      core.give_leases(record);
    }
    void operator()(CloseGate&) const { record.share.gate().close(); }
    void operator()(CloseGateIfIdle&) const { core.close_gate_if_idle(record); }
    void operator()(AdmitWaiters&) const { core.admit_waiters(record); }
    void operator()(FailWaiters& fail) const {
      core.release_mount_slot(record);
      core.fail_waiters(record, fail.error);
    }
    void operator()(AnswerUnmount& answer) const {
      const Error error = with_requirers(record, answer.error);
      record.busy = error.code() == 0 ? "" : error.message();
      for (DoneCallback& done : std::exchange(record.unmount_waiters, {})) {
        core.answer(std::move(done), error.code() == 0 ? Result<>() : Result<>(fail(error)));
      }
    }
    void operator()(SetTimer& timer) const { record.timer = timer.at; }
    void operator()(ClearTimer&) const { record.timer.reset(); }
    void operator()(HurryOperation&) const { core.hurry_operation(record); }
    void operator()(AbandonOperation&) const { core.abandon_operation(record); }
    void operator()(Overmount& add) const { core.start_overmount(record, add.deadline); }
    void operator()(RemoveOvermount& remove) const {
      core.start_removing_overmount(record, remove.when, remove.deadline);
    }
    void operator()(Emit& tell) const {
      core.emit(record, tell.kind, tell.attempt, tell.took, std::move(tell.reason), tell.code);
    }
  };
  std::visit(Perform{*this, record}, effect);
}

void Manager::Core::emit(Record& record, Event::Kind kind, std::uint32_t attempt, Duration took, std::string reason,
                         int code) {
  Event event{.kind = kind,
              .share = record.share.name(),
              .attempt = attempt,
              .took = took,
              .reason = std::move(reason),
              .code = code};
  if (kind == Event::Kind::kMountFailed && record.last_failure) event.detail = record.last_failure->failure.output;
  emit(std::move(event));
}

void Manager::Core::emit(Event event) {
  event.when = clock_.wall_now();
  if (setup_.on_event) setup_.on_event(event);
}

void Manager::Core::publish(Record& record) {
  ShareStatus status;
  const TimePoint now = clock_.now();
  const auto wall = [&](TimePoint at) {
    return clock_.wall_now() + std::chrono::duration_cast<WallTime::duration>(at - now);
  };
  status.state = life_cycle::name_of(record.state);
  status.since = record.since;
  status.mount_id = record.mount.id;
  status.source = record.share.spec().secrets().mask(record.source);
  status.mounts = record.mounts;
  status.failures = record.failures;
  status.waiting = static_cast<std::uint32_t>(record.waiters.size());
  status.busy = record.busy;
  status.held = record.held;
  status.overmount = record.overmount;
  if (record.share.standing() != Standing::kCurrent && status.held.empty()) status.held = record.unseen;
  status.required_by.assign(record.required_by.begin(), record.required_by.end());
  if (record.pending) status.pending = mount_changes(record.share.spec(), *record.pending);
  status.last_failure = record.last_failure;
  status.helper = record.mount.helper ? record.mount.helper->pid() : 0;
  const auto* mounted = std::get_if<life_cycle::Mounted>(&record.state);
  const life_cycle::Native native = mounted != nullptr ? mounted->native : life_cycle::Native::kNever;
  status.native = native == life_cycle::Native::kOn || native == life_cycle::Native::kRemoving;
  if (!status.native) status.with_berth = why_with_berth(record);
  record.share.set_native_door(native_door(record));
  const auto* const failed = std::get_if<life_cycle::Failed>(&record.state);
  const bool is_tried_again = failed != nullptr && failed->retry_at < now + life_cycle::kUntilRetry / 2;
  if (is_tried_again && failed->retry_at > now) status.retry_at = wall(failed->retry_at);
  status.stays = mounted != nullptr && mounted->stays;
  record.share.publish(std::move(status));
}

void Manager::Core::schedule(Record& record) {
  std::optional<TimePoint> next = record.timer;
  if (!record.waiters.empty()) bring_forward(next, record.waiters.front().deadline);
  if (!record.native_waiters.empty()) bring_forward(next, record.native_waiters.front().deadline);
  bring_forward(next, record.restore_at);
  bring_forward(next, record.health.look_at);
  if (next == record.scheduled) return;
  if (record.scheduled) {
    const auto [first, last] = timers_.equal_range(*record.scheduled);
    const auto mine = std::find_if(first, last, [&](const auto& timer) { return timer.second == &record; });
    if (mine != last) timers_.erase(mine);
  }
  record.scheduled = next;
  if (next) timers_.emplace(*next, &record);
}

bool Manager::Core::run_timers() {
  const TimePoint now = clock_.now();
  bool any = false;
  while (!timers_.empty() && timers_.begin()->first <= now) {
    any = true;
    Record& record = *timers_.begin()->second;
    timers_.erase(timers_.begin());
    record.scheduled.reset();
    while (!record.waiters.empty() && record.waiters.front().deadline <= now) {
      LeaseCallback done = std::move(record.waiters.front().done);
      record.waiters.pop_front();
      done(fail(ETIMEDOUT));
    }
    while (!record.native_waiters.empty() && record.native_waiters.front().deadline <= now) {
      answer(std::move(record.native_waiters.front().done), false);
      record.native_waiters.pop_front();
    }
    if (record.restore_at && *record.restore_at <= now) queue_restore(record);
    if (record.health.look_at && *record.health.look_at <= now) look_at_health(record);
    if (record.timer && *record.timer <= now) {
      record.timer.reset();
      const std::uint64_t users = record.share.users() + (is_held(record) ? 1 : 0);
      feed(record.share, life_cycle::Timer{users, record.share.last_left(), jitter()});
    } else {
      publish(record);
      schedule(record);
    }
  }
  if (look_at_held_ && *look_at_held_ <= now) look_for_holders_again();
  if (check_table_at_ && *check_table_at_ <= now) {
    check_table_at_.reset();
    check_lost_mounts();
  }
  if (look_at_removed_at_ && *look_at_removed_at_ <= now) look_at_removed();
  if (count_users_at_ && *count_users_at_ <= now) count_users();
  if (look_at_instances_at_ && *look_at_instances_at_ <= now) look_at_instances();
  start_queued_mounts();
  return any;
}

std::optional<TimePoint> Manager::Core::next_deadline() const {
  std::optional<TimePoint> next = check_table_at_;
  bring_forward(next, look_at_held_);
  bring_forward(next, look_at_removed_at_);
  bring_forward(next, count_users_at_);
  bring_forward(next, look_at_instances_at_);
  bring_forward(next, mount_slots_.next_at(clock_.now()));
  if (!timers_.empty()) bring_forward(next, timers_.begin()->first);
  return next;
}

void Manager::Core::on_ready(const sys::Poller::Ready& ready) {
  if (ready.tag == kMountTableTag) {
    if (!check_table_at_) check_table_at_ = clock_.now() + kTableDelay;
    return;
  }
  if (ready.tag == kSourceTag) return check_sources(source_watch_->take());
  for (const auto& [share, record] : records_) {
    if (reinterpret_cast<std::uint64_t>(record.get()) != ready.tag || !record->mount.helper) continue;
    poller_.remove(record->mount.helper->pidfd());
    feed(*share, life_cycle::MountLost{"its helper program has ended", users_left_behind(*share)});
    return;
  }
}

void Manager::Core::begin_stop() {
  stopping_ = true;
  answer_all(drain_waiters_, fail(ESHUTDOWN));
  answer_all(resume_waiters_, fail(ESHUTDOWN));
  const std::uint64_t one = 1;
  if (::write(cancel_.get(), &one, sizeof one) < 0) {
  }  // an eventfd that is full is readable, which is all that is wanted
  for (const auto& [share, record] : records_) {
    fail_waiters(*record, Error(ESHUTDOWN));
    answer_native_waiters(*record, std::exchange(record->native_waiters, {}));
    // On disk they stay.
    record->attachments.clear();
    record->without_lease = 0;
    record->restore_at.reset();
    if (std::holds_alternative<life_cycle::Mounting>(record->state)) hurry_operation(*record);
  }
  end_look_ups();
  unmount_idle();
}

void Manager::Core::unmount_idle() {
  for (const auto& [share, record] : records_) {
    if (std::holds_alternative<life_cycle::Mounted>(record->state)) feed(*share, life_cycle::UnmountWanted{false});
  }
}

void Manager::Core::force_stop() {
  for (const auto& [share, record] : records_) {
    const bool is_mounted = std::holds_alternative<life_cycle::Mounted>(record->state);
    if (is_mounted || std::holds_alternative<life_cycle::Expiring>(record->state)) {
      if (is_mounted) ++stopped_.given_up;
      feed(*share, life_cycle::UnmountWanted{true});
    }
  }
}

Manager::StopReport Manager::Core::stop_report() const { return stopped_; }

void Manager::Core::drain_callbacks() {
  if (callbacks_) callbacks_->drain();
}

void Manager::Core::abandon_threads() noexcept {
  if (operations_) operations_->detach_threads();
  if (callbacks_) callbacks_->detach_threads();
  if (probes_) probes_->detach_threads();
  if (look_up_pool_) look_up_pool_->detach_threads();
  if (disk_) disk_->detach_threads();
}

}  // namespace berth::manager
