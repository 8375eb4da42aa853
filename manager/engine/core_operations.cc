#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <unordered_set>

#include "manager/backends/attempt_namespace.h"
#include "manager/backends/inherited_program.h"
#include "manager/engine/core.h"
#include "manager/engine/share_output.h"
#include "manager/model/of_this_host.h"
#include "manager/model/server_of.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/thread.h"

namespace berth::manager {
namespace {

/// Shares whose descriptors are given up at once when there are few left.
constexpr std::size_t kRoomAtOnce = 16;

bool can_end_by_itself(const Share& share) {
  return share.spec().kind() == ShareKind::kFilesystem || share.spec().kind() == ShareKind::kCommand;
}

}  // namespace

void Manager::Core::await_mount(Share& share, WaiterId id, const char* reason, LeaseCallback done) {
  await_mount_until(share, id, reason, clock_.now() + share.spec().policy().mount_timeout, std::move(done));
}

void Manager::Core::await_mount_until(Share& share, WaiterId id, const char* reason, TimePoint deadline,
                                      LeaseCallback done) {
  Record& record = record_of(share);
  if (stopping_) return done(fail(ESHUTDOWN));
  if (!host_.up) return done(fail(refusal_));
  // It may have been mounted since the caller looked.
  if (std::optional<Lease> lease = share.try_lease()) return done(std::move(*lease));
  if (record.waiters.size() >= setup_.max_waiters_per_share) return done(fail(EAGAIN));
  const auto later = std::find_if(record.waiters.begin(), record.waiters.end(),
                                  [deadline](const Waiter& waiter) { return waiter.deadline > deadline; });
  record.waiters.insert(later, {id, deadline, std::move(done)});
  feed(share, life_cycle::LeaseWanted{reason});
}

void Manager::Core::interrupt(Share& share, WaiterId id) {
  Record& record = record_of(share);
  for (auto waiter = record.waiters.begin(); waiter != record.waiters.end(); ++waiter) {
    if (waiter->id != id) continue;
    LeaseCallback done = std::move(waiter->done);
    record.waiters.erase(waiter);
    done(fail(EINTR));
    publish(record);
    schedule(record);
    return;
  }
}

void Manager::Core::unmount(Share& share, bool force, DoneCallback done) {
  record_of(share).unmount_waiters.push_back(std::move(done));
  feed(share, life_cycle::UnmountWanted{force});
}

void Manager::Core::submit(sys::TaskPool* pool, Task work) {
  if (manual()) {
    manual_work_.push_back(std::move(work));
  } else {
    pool->submit(std::move(work));
  }
}

void Manager::Core::enqueue_mount(Record& record, const life_cycle::StartMount& start) {
  const auto kind =
      is_of_this_host(record.share.spec()) ? MountSlots<Record>::Kind::kLocal : MountSlots<Record>::Kind::kRemote;
  const std::vector<std::string>& sources = record.share.spec().sources();
  const bool has_server = kind == MountSlots<Record>::Kind::kRemote && !sources.empty();
  mount_slots_.add(&record, kind, start.deadline, has_server ? server_of(sources.front()) : std::string());
  start_queued_mounts();
}

void Manager::Core::start_queued_mounts() {
  while (const auto turn = mount_slots_.next(clock_.now())) start_mount(*turn->mount, turn->deadline);
}

void Manager::Core::release_mount_slot(Record& record) {
  if (!mount_slots_.end(&record)) return;
  // Not at once: this may be in the middle of another share's step.
  post([this] { start_queued_mounts(); });
}

void Manager::Core::make_room() {
  room_wanted_ = false;
  std::vector<Record*> idle;
  for (const auto& [share, record] : records_) {
    const auto* const mounted = std::get_if<life_cycle::Mounted>(&record->state);
    if (mounted == nullptr || mounted->stays || mounted->unmount_until || share->users() > 0) continue;
    idle.push_back(record.get());
  }
  const std::size_t few = std::min(idle.size(), kRoomAtOnce);
  std::partial_sort(idle.begin(), idle.begin() + static_cast<std::ptrdiff_t>(few), idle.end(),
                    [](const Record* a, const Record* b) { return a->share.last_left() < b->share.last_left(); });
  idle.resize(few);
  for (Record* const record : idle) feed(record->share, life_cycle::UnmountWanted{false});
}

void Manager::Core::start_mount(Record& record, TimePoint deadline) {
  // Not at once: this may be in the middle of another share's step.
  if (sys::few_descriptors_left() && wants_room()) post([this] { make_room(); });
  // What is stuck may yet mount something where it was told to.
  record.berth = record.stuck_mounts == 0 ? 0 : record.berth + 1;
  if (MountRecord* const kept = kept_record_of(record)) kept->berth = record.berth;
  keep_state(record, MountRecord::kMounting);
  record.operation = std::make_shared<Hurry>();
  if (stopping_) record.operation->wanted();
  std::atomic<std::int32_t>* const programs = record.kept != nullptr ? &record.kept->programs : nullptr;
  // An attempt that has waited for its turn too long is over before it begins; its answer comes all the same.
  auto work = [self = shared_from_this(), &record, operation = record.operation, berth = berth_of(record), programs,
               deadline, started = clock_.now(), avoided = record.avoided, required = required_shares(record),
               stray = std::move(record.stray_unmount), kept = record.kept]() mutable {
    if (stray) {  // it would take off what is found
      stray->end(self->clock_.now(), -1);
      kept->unmount_programs = -1;
      stray.reset();
    }
    const ShareSpec& spec = record.share.spec();
    Backend& backend = *self->setup_.backends.at(spec.kind());
    tl::expected<RealMount, AttemptFailure> outcome =
        self->clock_.now() >= deadline
            ? tl::unexpected(AttemptFailure{
                  .error = Error(ETIMEDOUT, "waited for other mounts (max_concurrent_mounts, max_mounts_per_server)")})
            : perform_mount(backend, spec, berth, self->berths_, deadline, operation->fd(), programs,
                            self->output_of(record.share), avoided, required);
    if (outcome) crash_point("mount-made");
    if (outcome && self->setup_.after_mount) self->setup_.after_mount(record.share);
    Core* core = self.get();
    core->post([core, &record, operation = std::move(operation), berth = std::move(berth), outcome = std::move(outcome),
                started]() mutable {
      if (operation != record.operation) return core->undo_abandoned(record, std::move(berth), std::move(outcome));
      operation.reset();
      core->on_mount_ended(record, std::move(outcome), core->clock_.now() - started);
    });
  };
  submit(operations_.get(), std::move(work));
}

/// What waits for its turn, or for shares that are required, ends without having begun.
void Manager::Core::hurry_operation(Record& record) {
  if (record.gathering == nullptr && !mount_slots_.drop(&record)) {
    if (record.operation) record.operation->wanted();
    return;
  }
  end_gathering(record);
  // Not at once: this is in the middle of a step.
  post([this, &record] { on_mount_ended(record, tl::unexpected(AttemptFailure{.error = Error(ECANCELED)}), {}); });
}

/// The name of the mountpoint that it has now. A mount beside one that is stuck has another one than that.
std::string Manager::Core::berth_of(const Record& record) const {
  if (record.berth == 0) return record.share.berth();
  return ".berth." + std::to_string(record.share.incarnation()) + "." + std::to_string(record.berth);
}

/// What it brings is undone when it comes. What serves the mount that an unmount was of is ended by the operation that
/// takes its place.
void Manager::Core::abandon_operation(Record& record) {
  const std::shared_ptr<Hurry> operation = std::exchange(record.operation, nullptr);
  ++stuck_;
  if (!std::holds_alternative<life_cycle::Expiring>(record.state)) {
    operation->wanted();
    release_mount_slot(record);
    ++record.stuck_mounts;
    record.is_failing = true;
    return;
  }
  record.mount = RealMount{};
  if (operation->helper) record.mount.helper = std::make_unique<InheritedProgram>(0, std::move(operation->helper));
  record.mount.programs = take_over_programs(std::move(operation->programs), berths_.path_of(berth_of(record)));
}

/// The function that gets the output of the share's programs.
std::function<void(std::string_view)> Manager::Core::output_of(const Share& share) const {
  if (!setup_.on_output || !can_end_by_itself(share)) return {};
  const Backend& backend = *setup_.backends.at(share.spec().kind());
  const auto output = std::make_shared<ShareOutput>(share.name(), backend.secrets_of(share.spec()), setup_.on_output);
  return [output](std::string_view bytes) { (*output)(bytes); };
}

void Manager::Core::on_mount_ended(Record& record, tl::expected<RealMount, AttemptFailure> outcome, Duration took) {
  release_mount_slot(record);
  record.operation.reset();
  const bool overdue = life_cycle::name_of(record.state) == ShareState::kFailed;
  life_cycle::MountEnded ended;
  if (outcome) {
    ended.success = true;
    record.mount = std::move(*outcome);
    record.source = record.mount.source;
    record.avoided.clear();
    watch_source(record);
    if (record.stray_programs) record.mount.programs = std::move(record.stray_programs);
    record.is_failing = overdue;
    for (const PassedOver& source : std::exchange(record.mount.passed_over, {})) {
      emit(record, Event::Kind::kPassedOver, 0, {}, quote(source.source) + ": " + source.error.message(),
           source.error.code());
    }
    ended.native = record.mount.id != 0 && is_to_be_native(record.share);
    ended.lies_over = std::exchange(record.was_native, false) && setup_.native != nullptr;
    ended.stays = record.mount.holds_only_copy && !record.share.spec().policy().idle_timeout_is_own;
    if (ended.lies_over) record.share.set_overmounted(clock_.now());
    if (!record.mount.warning.empty()) emit(record, Event::Kind::kWarning, 0, {}, record.mount.warning);
    if (!overdue) ++record.mounts;
  } else {
    keep_state(record, MountRecord::kNone);
    ended.error = outcome.error().error;
    ended.jitter = jitter();
    const auto* mounting = std::get_if<life_cycle::Mounting>(&record.state);
    ++record.failures;
    record.is_failing = true;
    record.last_failure =
        FailureReport{clock_.wall_now(), mounting != nullptr ? mounting->attempt : 0, took, std::move(outcome).error()};
  }
  feed(record.share, ended);
  // Since it was found, and before it was watched.
  if (ended.success && record.source_number != 0) check_source(record);
  if (stopping_ && std::holds_alternative<life_cycle::Mounted>(record.state)) {
    feed(record.share, life_cycle::UnmountWanted{false});
  }
}

/// Of a mount that was abandoned.
void Manager::Core::undo_abandoned(Record& record, std::string berth, tl::expected<RealMount, AttemptFailure> outcome) {
  auto work = [self = shared_from_this(), &record, berth = std::move(berth), outcome = std::move(outcome)]() mutable {
    const ShareSpec& spec = record.share.spec();
    if (outcome)  // where it fails, what is left of it goes with the namespace
      (void)perform_unmount(*self->setup_.backends.at(spec.kind()), spec, berth, *outcome, self->berths_,
                            self->clock_.now(), -1, true);
    outcome = tl::unexpected(AttemptFailure{});
    self->post([core = self.get(), &record] {
      --core->stuck_;
      --record.stuck_mounts;
      // It has noted that it has no programs any more, where those of this mount are noted.
      if (std::holds_alternative<life_cycle::Mounted>(record.state)) core->keep_mounted(record);
    });
  };
  submit(operations_.get(), std::move(work));
}

void Manager::Core::open_gate(Record& record) {
  collect_retired(record);
  record.share.touch(clock_.now());
  record.share.set_root(record.mount.root.get());
  record.share.gate().open();
  record.held.clear();  // looked for again when this mount is gone
  held_.erase(&record);
  keep_released(record, {});
  give_leases(record);
  if (record.mount.helper) watch_helper(record);
  watch_health(record);
  keep_mounted(record);
}

void Manager::Core::watch_helper(Record& record) {
  // Refused only when out of memory or watches; then the mount table reports its end, later.
  (void)poller_.add(record.mount.helper->pidfd(), EPOLLIN, reinterpret_cast<std::uint64_t>(&record));
}

void Manager::Core::close_gate_if_idle(Record& record) {
  // In the midst of the step that asked: until the answer is known the gate and the state would disagree.
  // A draining share's is closed already, and no caller comes in.
  const auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state);
  if (mounted != nullptr && !mounted->unmount_until && is_held(record)) {
    return feed(record.share, life_cycle::GateInUse{record.share.users() + 1});
  }
  if (record.share.close_if_idle()) {
    feed(record.share, life_cycle::GateClosed{});
  } else {
    feed(record.share, life_cycle::GateInUse{record.share.users()});
  }
}

void Manager::Core::start_unmount(Record& record, const life_cycle::StartUnmount& start) {
  keep_state(record, MountRecord::kUnmounting);
  unwatch_source(record);
  record.health = {};
  record.operation = std::make_shared<Hurry>();
  if (record.mount.programs) record.operation->programs = copy_of(record.mount.programs->descriptor());
  if (record.mount.helper) {
    record.operation->helper = copy_of(record.mount.helper->process());
    poller_.remove(record.mount.helper->pidfd());
  }
  // A request that is inside works with this number, which must not become another file's before it has left. And while
  // it is open, to detach the mount does not end a file system of another host, which collect_retired() does.
  if (record.share.users() > 0 || (start.force && !is_to_be_native(record.share)))
    record.retired_roots.push_back({std::move(record.mount.root), &record.share.retire_mount()});
  auto work = [self = shared_from_this(), &record, operation = record.operation, berth = berth_of(record),
               mount = std::move(record.mount),
               programs = record.kept != nullptr ? &record.kept->unmount_programs : nullptr, force = start.force,
               dead = start.dead, deadline = start.deadline, native = start.native]() mutable {
    const ShareSpec& spec = record.share.spec();
    const bool is_native = self->is_to_be_native(record.share);
    const std::uint64_t device = is_native ? device_to_look_for(record.share, mount.root.get()) : 0;
    if (is_native) keep_released(record, device);
    // A mount that cannot be taken off now goes with the namespace, or is found at the next start.
    if (native) (void)self->setup_.native->remove_overmount(record.share, NativeAccess::When::kAlways, deadline);
    if (self->setup_.before_unmount) self->setup_.before_unmount(record.share, mount.root.get(), force && !dead);
    Result<> outcome = perform_unmount(*self->setup_.backends.at(spec.kind()), spec, berth, mount, self->berths_,
                                       deadline, operation->fd(), force, programs);
    Core* core = self.get();
    core->post([core, &record, operation = std::move(operation), is_native, device, mount = std::move(mount),
                outcome = std::move(outcome)]() mutable {
      if (outcome && is_native) {
        return core->look_for_holders(
            {&record, {.share = record.share.name(), .device = device}, std::move(operation)});
      }
      core->on_unmount_ended(record, std::move(operation), std::move(mount), std::move(outcome));
    });
  };
  record.mount = RealMount{};
  submit(operations_.get(), std::move(work));
}

void Manager::Core::on_unmount_ended(Record& record, std::shared_ptr<Hurry> operation, RealMount mount,
                                     Result<> outcome) {
  if (operation != record.operation) {  // it was stuck: another one has done its work
    --stuck_;
    // Ends what is left of the mount, which may wait for its server.
    return submit(operations_.get(), [left = std::move(mount)]() mutable { left = RealMount{}; });
  }
  // With its descriptors, before the share is idle for others.
  record.operation.reset();
  operation.reset();
  life_cycle::UnmountEnded ended;
  ended.success = outcome.has_value();
  if (outcome) {
    keep_state(record, MountRecord::kNone);
    if (stopping_) ++stopped_.unmounted;
    collect_retired(record);
  } else {
    ended.error = outcome.error();
    record.mount = std::move(mount);
  }
  feed(record.share, ended);
}

void Manager::Core::collect_retired(Record& record) {
  // No user comes in any more.
  const auto unused = std::partition(record.retired_roots.begin(), record.retired_roots.end(),
                                     [](const RetiredRoot& one) { return one.mount->gate.users() > 0; });
  if (unused == record.retired_roots.end()) return;
  // The last descriptor of a mount that was detached ends its file system, which may wait for a server (NFS 4,
  // DESTROY_SESSION).
  const auto roots = std::make_shared<std::vector<RetiredRoot>>(std::make_move_iterator(unused),
                                                                std::make_move_iterator(record.retired_roots.end()));
  record.retired_roots.erase(unused, record.retired_roots.end());
  Result<std::thread> thread = sys::start_thread("berth-retire", [roots] {
    for (RetiredRoot& one : *roots) one.root.reset();
  });
  if (thread) {
    for (const RetiredRoot& one : *roots) one.mount->is_retired = false;
    return thread->detach();
  }
  std::move(roots->begin(), roots->end(), std::back_inserter(record.retired_roots));  // for another time
}

void Manager::Core::admit_waiters(Record& record) {
  for (Waiter& waiter : std::exchange(record.waiters, {})) {
    if (std::optional<Lease> lease = record.share.try_lease()) {
      waiter.done(std::move(*lease));
    } else {
      waiter.done(fail(EAGAIN));
    }
  }
}

void Manager::Core::fail_waiters(Record& record, const Error& error) {
  for (Waiter& waiter : std::exchange(record.waiters, {})) waiter.done(fail(error));
}

LeaseCallback Manager::Core::on_callback_thread(LeaseCallback done) {
  return [this, use = Operation(*this), done = std::move(done)](Result<Lease> result) mutable {
    auto work = [use = std::move(use), done = std::move(done), result = std::move(result)]() mutable {
      done(std::move(result));
    };
    submit(callbacks_.get(), std::move(work));
  };
}

void Manager::Core::answer(NativeCallback done, bool native) {
  submit(callbacks_.get(), [done = std::move(done), native]() mutable { done(native); });
}

void Manager::Core::answer(DoneCallback done, Result<> result) {
  auto work = [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); };
  submit(callbacks_.get(), std::move(work));
}

void Manager::Core::check_lost_mounts() {
  std::vector<std::pair<Record*, MountId>> known;
  for (const auto& [share, record] : records_) {
    if (std::holds_alternative<life_cycle::Mounted>(record->state) && can_end_by_itself(*share)) {
      known.emplace_back(record.get(), record->mount.id);
    }
  }
  if (known.empty()) return;
  operations_->submit([self = shared_from_this(), known = std::move(known)] {
    Result<std::vector<sys::MountEntry>> table = sys::read_mount_table();
    if (!table) return;
    std::unordered_set<std::uint64_t> there;
    for (const sys::MountEntry& entry : *table) there.insert(entry.id);
    for (const auto& [record, id] : known) {
      if (there.contains(id)) continue;
      Core* core = self.get();
      core->post([core, record = record, id = id] {
        if (record->mount.id != id) return;
        core->feed(record->share, life_cycle::MountLost{"it is no longer in the mount table",
                                                        users_left_behind(record->share), false});
      });
    }
  });
}

}  // namespace berth::manager
