// What the control thread does about native access (life_cycle::Native).
#include <algorithm>
#include <utility>

#include "manager/engine/core.h"
#include "src/lib/base/crash_point.h"

namespace berth::manager {
namespace {

/// How often processes in overmounts of shares that are to go are counted, at most.
constexpr std::chrono::milliseconds kCountAgain{250};
/// And at least, also where no processor was free for the last look.
constexpr std::chrono::seconds kCountAtLeast{10};

}  // namespace

bool Manager::Core::is_to_be_native(const Share& share) const {
  return setup_.native != nullptr && !share.is_removed() && share.spec().wants_native() &&
         (setup_.auto_access == ManagerSetup::AutoAccess::kNative || share.spec().policy().access == Access::kNative);
}

NativeDoor Manager::Core::native_door(const Record& record) const {
  using life_cycle::Native;
  if (!is_to_be_native(record.share)) return NativeDoor::kNone;
  const auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state);
  if (mounted == nullptr) return NativeDoor::kShut;
  switch (mounted->native) {
    case Native::kNever:
      return NativeDoor::kNone;
    case Native::kOn:
      return NativeDoor::kOpen;
    case Native::kOff:
    case Native::kOvermounting:
    case Native::kRemoving:  // it may be off by now
      break;
  }
  return NativeDoor::kShut;
}

std::string Manager::Core::why_with_berth(const Record& record) const {
  if (setup_.native == nullptr) return "";
  if (const std::string_view reason = record.share.spec().why_with_berth(); !reason.empty()) return std::string(reason);
  if (!is_to_be_native(record.share)) {
    return setup_.auto_access == ManagerSetup::AutoAccess::kNoRoot ? "native access needs root"
                                                                   : "a namespace of mount.berth is ended by umount(8)";
  }
  const auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state);
  return mounted != nullptr ? mounted->with_berth : "";
}

void Manager::Core::start_overmount(Record& record, TimePoint deadline) {
  // No unmount starts while the share is being overmounted: the root stays.
  auto work = [self = shared_from_this(), &record, root = record.mount.root.get(), deadline] {
    const Result<std::uint64_t> overmounted = self->setup_.native->overmount(record.share, root, deadline);
    // At once, for the next server.
    if (overmounted && record.kept != nullptr) record.kept->overmount = *overmounted;
    crash_point("overmount-done");
    Core* core = self.get();
    core->post(
        [core, &record, overmount = overmounted.value_or(0), error = overmounted ? Error(0) : overmounted.error()] {
          if (error.code() == 0) core->note_overmount(record, overmount);
          // Callers that have waited for this attempt are answered by it; it is not tried again for them.
          std::list<NativeWaiter> waiters = std::exchange(record.native_waiters, {});
          core->feed(record.share, life_cycle::OvermountDone{error});
          core->answer_native_waiters(record, std::move(waiters));
        });
  };
  submit(operations_.get(), std::move(work));
}

void Manager::Core::await_native(Share& share, NativeCallback done) {
  Record& record = record_of(share);
  const bool refused = stopping_ || !host_.up || record.native_waiters.size() >= setup_.max_waiters_per_share;
  if (refused || !is_to_be_native(share)) return answer(std::move(done), false);
  NativeCallback count_operation = [use = Operation(*this), done = std::move(done)](bool native) mutable {
    done(native);
  };
  const TimePoint deadline = clock_.now() + share.spec().policy().mount_timeout;
  const auto later = std::find_if(record.native_waiters.begin(), record.native_waiters.end(),
                                  [deadline](const NativeWaiter& waiter) { return waiter.deadline > deadline; });
  record.native_waiters.insert(later, {deadline, std::move(count_operation)});
  feed(share, life_cycle::NativeWanted{});
}

/// When a share has come to a state in which nothing is under way.
void Manager::Core::update_native_waiters(Record& record) {
  if (record.native_waiters.empty()) return;
  if (life_cycle::is_ready_to_overmount(record.state)) return feed(record.share, life_cycle::NativeWanted{});
  if (!life_cycle::may_get_ready_to_overmount(record.state)) {
    answer_native_waiters(record, std::exchange(record.native_waiters, {}));
  }
}

void Manager::Core::answer_native_waiters(const Record& record, std::list<NativeWaiter> waiters) {
  const auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state);
  const bool native = mounted != nullptr && mounted->native == life_cycle::Native::kOn;
  for (NativeWaiter& waiter : waiters) answer(std::move(waiter.done), native);
}

void Manager::Core::start_removing_overmount(Record& record, NativeAccess::When when, TimePoint deadline) {
  auto work = [self = shared_from_this(), &record, when, deadline] {
    Result<NativeAccess::Outcome> taken = self->setup_.native->remove_overmount(record.share, when, deadline);
    Core* core = self.get();
    core->post([core, &record, when, taken = std::move(taken)] {
      // Those that were in it stay in it where it was removed whatever they do.
      if (taken && *taken == NativeAccess::Outcome::kOff && when != NativeAccess::When::kAlways)
        core->note_overmount(record, 0);
      const bool wanted = !record.native_waiters.empty();
      core->feed(record.share,
                 taken ? life_cycle::OvermountRemoved{*taken, Error(0), wanted}
                       : life_cycle::OvermountRemoved{NativeAccess::Outcome::kInUse, taken.error(), wanted});
    });
  };
  submit(operations_.get(), std::move(work));
}

void Manager::Core::note_overmount(Record& record, std::uint64_t overmount) {
  record.overmount = overmount;
  if (overmount != 0) record.unseen.clear();
  if (record.kept != nullptr) record.kept->overmount = overmount;
  if (overmount != 0 && record.share.standing() != Standing::kCurrent) count_users_at_ = clock_.now();
}

/// Whether processes may be in what was mounted over the directory of a share that is to go. No lease tells of them.
bool Manager::Core::is_left_native(const Record& record) const {
  if (setup_.native == nullptr || record.overmount == 0 || record.share.standing() == Standing::kCurrent) return false;
  const auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state);
  return mounted == nullptr || mounted->native != life_cycle::Native::kOn;
}

void Manager::Core::count_users() {
  count_users_at_.reset();
  if (counting_users_ || setup_.native == nullptr) return;
  std::vector<std::pair<Record*, std::uint64_t>> counted;
  std::vector<std::uint64_t> overmounts;
  for (const auto& [share, record] : records_) {
    if (share->standing() == Standing::kCurrent || record->overmount == 0) continue;
    counted.emplace_back(record.get(), record->overmount);
    overmounts.push_back(record->overmount);
  }
  if (counted.empty()) return;
  counting_users_ = true;
  submit(operations_.get(),
         [self = shared_from_this(), counted = std::move(counted), overmounts = std::move(overmounts)]() mutable {
           const TimePoint begun = self->clock_.now();
           Result<NativeAccess::Users> users = self->setup_.native->count_users(overmounts);
           self->post([core = self.get(), counted = std::move(counted), users = std::move(users),
                       took = self->clock_.now() - begun] { core->on_users_counted(counted, users, took); });
         });
}

void Manager::Core::on_users_counted(const std::vector<std::pair<Record*, std::uint64_t>>& counted,
                                     const Result<NativeAccess::Users>& users, Duration took) {
  counting_users_ = false;
  // All processes are looked at: that takes five per cent of a processor at most.
  count_users_at_ = clock_.now() + std::clamp<Duration>(20 * took, kCountAgain, kCountAtLeast);
  for (std::size_t i = 0; users && i < counted.size(); ++i) {
    Record& record = *counted[i].first;
    if (record.overmount != counted[i].second || record.share.standing() == Standing::kCurrent) continue;
    const bool is_left = users->in[i] == 0;
    if (record.unseen.empty() && !users->unseen.empty()) emit(record, Event::Kind::kWarning, 0, {}, users->unseen);
    record.unseen = users->unseen;
    if (is_left && is_left_native(record)) {
      note_overmount(record, 0);
      if (std::holds_alternative<life_cycle::Mounted>(record.state)) record.timer = clock_.now();
      if (record.share.is_removed()) look_at_removed_at_ = clock_.now();
    }
    publish(record);
    schedule(record);
    if (is_left) unmount_if_pending(record);
  }
  publish_shown();
}

/// Any thread that may wait.
void Manager::Core::add_native_users(ReloadReport& report) const {
  std::vector<ReloadReport::Share*> shares;
  std::vector<std::uint64_t> overmounts;
  for (auto* const list : {&report.changed, &report.removed}) {
    for (ReloadReport::Share& share : *list) {
      if (share.overmount == 0) continue;
      shares.push_back(&share);
      overmounts.push_back(share.overmount);
    }
  }
  if (shares.empty() || setup_.native == nullptr) return;
  const Result<NativeAccess::Users> users = setup_.native->count_users(overmounts);
  for (std::size_t i = 0; users && i < shares.size(); ++i) shares[i]->users += users->in[i];
}

void Manager::Core::take_over_native(Share& share) {
  if (stopping_) return;
  Record& record = record_of(share);
  if (auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state)) {
    mounted->native = life_cycle::Native::kOn;
    mounted->check_native_at = clock_.now();
    share.set_overmounted(clock_.now());
    record.timer = mounted->check_native_at;
    publish(record);
    return schedule(record);
  }
  record.was_native = true;
  feed(share, life_cycle::LeaseWanted{"native since an earlier server"});
}

}  // namespace berth::manager
