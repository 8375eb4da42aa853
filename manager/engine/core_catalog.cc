// The catalog in force, and what a change of it does to shares that are in use.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "manager/engine/core.h"
#include "manager/model/requirements.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

using life_cycle::Failed;
using life_cycle::Idle;
using life_cycle::Mounted;
using life_cycle::Native;

/// How often removed shares are looked at, which a working directory may be in: the kernel tells of its end by
/// forgetting.
constexpr std::chrono::milliseconds kLookAtRemoved{500};

/// `after` for a mount that is made by `before` and stays.
ShareSpec with_policy_of(const ShareSpec& before, const ShareSpec& after) {
  ShareFields fields = before.fields();
  const SharePolicy old = std::exchange(fields.policy, after.policy());
  fields.policy.read_only = old.read_only;
  fields.policy.allow_suid = old.allow_suid;
  fields.policy.allow_devices = old.allow_devices;
  return ShareSpec::make(std::move(fields), &before).value_or(before);
}

std::vector<std::string> names_of(const Share& share) {
  std::vector<std::string> names;
  for (const Attachment& attachment : share.status().attachments) {
    names.push_back(attachment.instance + "/" + attachment.volume);
  }
  return names;
}

}  // namespace

std::shared_ptr<const Manager::Directory> Manager::Core::directory() const {
  MutexLock lock(mutex_);
  return directory_;
}

std::shared_ptr<const Manager::Directory> Manager::Core::shown() const {
  MutexLock lock(mutex_);
  return shown_;
}

std::vector<std::shared_ptr<Share>> Manager::Core::removed() const {
  MutexLock lock(mutex_);
  return shown_removed_;
}

std::map<std::uint64_t, std::shared_ptr<Share>> Manager::Core::incarnations() const {
  std::map<std::uint64_t, std::shared_ptr<Share>> all;
  // There is none before the first catalog is in force.
  if (const std::shared_ptr<const Directory> shares = directory()) {
    for (const auto& [name, share] : *shares) all.emplace(share->incarnation(), share);
  }
  for (const std::shared_ptr<Share>& share : removed_) all.emplace(share->incarnation(), share);
  return all;
}

std::shared_ptr<Share> Manager::Core::find(std::string_view name) const {
  const std::shared_ptr<const Directory> shares = directory();
  const auto found = shares->find(name);
  return found != shares->end() ? found->second : nullptr;
}

Manager::Core::Record* Manager::Core::find_record(Share& share) const {
  const auto found = records_.find(&share);
  return found != records_.end() ? found->second.get() : nullptr;
}

/// At the start: what the manager before this one had, and then the difference to what is configured now.
Result<> Manager::Core::begin_catalog_with(const Catalog& wanted) {
  KeptCatalog kept = catalog_log_.read();
  const bool is_kept = kept.configuration != 0 || !kept.shares.empty();
  const bool is_same = kept.configuration != 0 && kept.configuration == setup_.configuration;
  configuration_ = setup_.configuration;
  if (is_kept) take_over_catalog(std::move(kept));
  if (is_kept && is_same) return {};
  const Catalog catalog = with_kept(wanted, catalog_);
  CatalogPlan planned = TRY(plan(catalog));
  planned.change.configuration(configuration_);
  // The kernel has never heard of any name yet, so none is to be told.
  if (!is_kept) planned.change.told();
  TRY_VOID(commit(planned.change));
  catalog_ = catalog;
  if (is_kept) untold_.merge(planned.changed_names());
  carry_out(planned);
  return {};
}

void Manager::Core::take_over_catalog(KeptCatalog kept) {
  last_incarnation_ = kept.last_incarnation;
  untold_ = std::move(kept.untold);
  std::vector<std::shared_ptr<Share>> current;
  std::map<std::string, uid_t> instances;
  for (auto& [incarnation, one] : kept.shares) {
    if (one.spec.is_template()) {
      templates_kept_.emplace(one.spec.name(), incarnation);
      (void)catalog_.add(one.spec);
      continue;
    }
    auto share = std::make_shared<Share>(one.spec, *this, incarnation, one.is_second);
    if (one.is_removed) {
      share->set_standing(Standing::kRemoved);
      removed_.push_back(std::move(share));
      continue;
    }
    if (one.user) instances.emplace(share->name(), *one.user);
    if (is_to_be_native(*share)) share->set_native_door(NativeDoor::kShut);
    if (one.pending) {
      share->set_standing(Standing::kPending);
      record_of(*share).pending = std::move(one.pending);
    }
    current.push_back(std::move(share));
  }
  take_over_instances(instances);
  std::sort(current.begin(), current.end(), [](const auto& a, const auto& b) { return a->name() < b->name(); });
  auto directory = std::make_shared<Directory>();
  for (const std::shared_ptr<Share>& share : current) {
    const Record* const record = find_record(*share);
    // One that cannot be added was never there: the catalog was checked when it was kept.
    if (!instances_.user_of(share->name())) {
      (void)catalog_.add(record != nullptr && record->pending ? *record->pending : share->spec());
    }
    directory->add(share->name(), share);
  }
  {
    MutexLock lock(mutex_);
    directory_ = std::move(directory);
  }
  publish_templates();
  for (const auto& [name, instance] : instances_.all()) note_held(instance.looked_up);
  publish_shown();
}

Result<> Manager::Core::check_kinds(const std::vector<ShareSpec>& specs) const {
  for (const ShareSpec& spec : specs) {
    if (setup_.backends.contains(spec.kind())) continue;
    return fail(EINVAL, spec.origin() + ": shares of type \"" + spec.type() + "\" are not served here");
  }
  return {};
}

Result<CatalogPlan> Manager::Core::plan(const Catalog& next) {
  const CatalogDifference found = difference(catalog_, next);
  CatalogPlan plan;
  plan.last_incarnation = last_incarnation_;
  TRY_VOID(check_kinds(found.added));
  std::vector<ShareSpec> changed;
  for (const CatalogDifference::Changed& one : found.changed) changed.push_back(one.after);
  TRY_VOID(check_kinds(changed));
  for (const ShareSpec& spec : found.removed) {
    const std::shared_ptr<Share> share = find(spec.name());
    if (share == nullptr) continue;
    plan.change.remove(share->incarnation());
    plan.removed.push_back(share);
    plan.report.removed.push_back(report_of(*share));
  }
  // What is removed comes first: what is added may take its name, or the name of a directory above it.
  plan_instances(plan, next);
  for (const CatalogDifference::Changed& one : found.changed) plan_change(plan, one);
  for (const ShareSpec& spec : found.added) {
    plan_new(plan, spec);
    plan.report.added.push_back(spec.name());
  }
  plan_templates(plan, next);
  const auto by_name = [](const auto& a, const auto& b) { return a->name() < b->name(); };
  std::sort(plan.added.begin(), plan.added.end(), by_name);
  std::sort(plan.removed.begin(), plan.removed.end(), by_name);
  return plan;
}

void Manager::Core::plan_change(CatalogPlan& plan, const CatalogDifference::Changed& changed) {
  const std::shared_ptr<Share> share = find(changed.after.name());
  if (share == nullptr) return;
  const ShareSpec& spec = changed.after;
  ReloadReport::Share report{.name = share->name()};
  const ShareSpec now = with_policy_of(share->spec(), spec);
  if (mounts_alike(share->spec(), spec)) {
    if (share->standing() == Standing::kPending) {
      plan.change.settle(share->incarnation());
      plan.settled.push_back(share);
    }
  } else if (is_mount_free(*share)) {
    plan.change.remove(share->incarnation());
    plan.removed.push_back(share);
    plan_new(plan, spec);
    plan.report.changed.push_back(std::move(report));
    return;
  } else {
    report = report_of(*share);
    report.is_pending = true;
    plan.change.pend(share->incarnation(), spec);
    plan.pending.push_back({share, spec});
  }
  if (!(now == share->spec())) {
    plan.change.put(share->incarnation(), now, share->is_second());
    if (const auto user = instances_.user_of(share->name())) plan.change.instance(share->incarnation(), *user);
    plan.policies.push_back({share, now});
  }
  plan.report.changed.push_back(std::move(report));
}

/// The next incarnation of its name.
void Manager::Core::plan_new(CatalogPlan& plan, const ShareSpec& spec) const {
  const auto has_name = [&spec](const std::shared_ptr<Share>& share) { return share->name() == spec.name(); };
  const bool is_second = std::any_of(removed_.begin(), removed_.end(), has_name) ||
                         (!plan.removed.empty() && find(spec.name()) != nullptr);
  // The listener is this manager, which outlives its shares.
  auto& self = const_cast<Core&>(*this);
  auto share = std::make_shared<Share>(spec, self, ++plan.last_incarnation, is_second);
  plan.change.put(share->incarnation(), spec, is_second);
  const std::optional<uid_t> user = instances_.user_of(spec.name());
  if (user && !plan.configured.contains(spec.name())) plan.change.instance(share->incarnation(), *user);
  if (is_to_be_native(*share)) share->set_native_door(NativeDoor::kShut);
  plan.added.push_back(std::move(share));
}

ReloadReport::Share Manager::Core::report_of(Share& share) const {
  ReloadReport::Share report{.name = share.name(), .users = share.users(), .attachments = names_of(share)};
  // Those of attachments are named.
  const Record* const record = find_record(share);
  if (record == nullptr) return report;
  report.overmount = record->overmount;
  for (const auto& [attachment, lease] : record->attachments) {
    if (lease && report.users > 0) --report.users;
  }
  return report;
}

/// Whether nothing is mounted, and no caller waits for a mount: another share can take its place now.
bool Manager::Core::is_mount_free(Share& share) const {
  const Record* const record = find_record(share);
  if (record == nullptr) return true;
  const bool is_mounted =
      !std::holds_alternative<Idle>(record->state) && !std::holds_alternative<Failed>(record->state);
  return !is_mounted && record->waiters.empty() && record->native_waiters.empty() &&
         record->pending_attachments.empty();
}

Result<> Manager::Core::commit(const CatalogLog::Change& change) {
  if (catalog_log_.commit(change)) return {};
  if (catalog_log_.rewrite(whole_catalog()) && catalog_log_.commit(change)) return {};
  return fail(ENOSPC, "there is no room to keep so large a catalog");
}

CatalogLog::Change Manager::Core::whole_catalog() const {
  CatalogLog::Change all;
  all.begin(last_incarnation_, configuration_);
  for (const auto& [incarnation, share] : incarnations()) {
    all.put(incarnation, share->spec(), share->is_second());
    const std::optional<uid_t> user = instances_.user_of(share->name());
    if (user && !share->is_removed()) all.instance(incarnation, *user);
    if (const Record* const record = find_record(*share); record != nullptr && record->pending) {
      all.pend(incarnation, *record->pending);
    }
    if (share->is_removed()) all.remove(incarnation);
  }
  for (const auto& [name, number] : templates_kept_) {
    const auto found = catalog_.templates().find(name);
    if (found != catalog_.templates().end()) all.put(number, found->second, false);
  }
  if (untold_.empty() && telling_ == 0) all.told();
  return all;
}

void Manager::Core::reload(Catalog catalog, bool dry_run, ReloadCallback done) {
  const auto answer = [this](ReloadCallback to, Result<ReloadReport> report) {
    submit(callbacks_.get(), [self = shared_from_this(), to = std::move(to), report = std::move(report)]() mutable {
      if (report) self->add_native_users(*report);
      to(std::move(report));
    });
  };
  if (stopping_) return answer(std::move(done), fail(ESHUTDOWN));
  catalog = with_kept(std::move(catalog), catalog_);
  Result<CatalogPlan> planned = plan(catalog);
  if (!planned) return answer(std::move(done), fail(planned.error()));
  if (dry_run) return answer(std::move(done), std::move(planned->report));
  if (const Result<> kept = commit(planned->change); !kept) return answer(std::move(done), fail(kept.error()));
  catalog_ = std::move(catalog);
  carry_out(*planned);
  tell_change(*planned, [answer, done = std::move(done), report = planned->report]() mutable {
    answer(std::move(done), std::move(report));
  });
}

/// What is kept already.
void Manager::Core::carry_out(CatalogPlan& plan) {
  last_incarnation_ = plan.last_incarnation;
  // The directory comes first: what is removed and not in use may be over at once, and no look-up is to find it then.
  for (const std::shared_ptr<Share>& share : plan.removed) {
    share->set_standing(Standing::kRemoved);
    removed_.push_back(share);
  }
  change_directory(plan);
  for (const std::string& name : plan.configured) instances_.remove(name);
  for (const std::shared_ptr<Share>& share : plan.removed) {
    if (find(share->name()) == nullptr) instances_.remove(share->name());
  }
  if (plan.templates) {
    templates_kept_ = *std::move(plan.templates);
    publish_templates();
  }
  for (const CatalogPlan::NewSpec& one : plan.policies) change_policy(*one.share, one.spec);
  for (const std::shared_ptr<Share>& share : plan.settled) {
    share->set_standing(Standing::kCurrent);
    if (Record* const record = find_record(*share)) {
      record->pending.reset();
      publish(*record);
    }
  }
  for (const CatalogPlan::NewSpec& one : plan.pending) {
    Record& record = record_of(*one.share);
    record.pending = one.spec;
    one.share->set_standing(Standing::kPending);
    leave(record);
  }
  for (const std::shared_ptr<Share>& share : plan.removed) {
    Record* const record = find_record(*share);
    if (record == nullptr) continue;
    record->pending.reset();
    leave(*record);
  }
  // Of those as well whose name was free for a while.
  for (const std::shared_ptr<Share>& share : removed_) {
    Record* const record = find_record(*share);
    const bool has_any = record != nullptr && (share->attachment_count() > 0 || !share->instances().empty() ||
                                               !record->pending_attachments.empty());
    const std::shared_ptr<Share> next = has_any ? find(share->name()) : nullptr;
    if (next == nullptr) continue;
    hand_attachments_on(*record, *next);
    leave(*record);
  }
  if (!removed_.empty()) look_at_removed_at_ = clock_.now() + kLookAtRemoved;
  count_users_at_ = clock_.now();
  publish_shown();
}

/// In one pass over what was there.
void Manager::Core::change_directory(const CatalogPlan& plan) {
  if (plan.added.empty() && plan.removed.empty() && directory() != nullptr) return;
  auto next = std::make_shared<Directory>();
  auto added = plan.added.begin();
  const auto add_before = [&](std::string_view name, bool all) {
    for (; added != plan.added.end() && (all || (*added)->name() < name); ++added) next->add((*added)->name(), *added);
  };
  if (const std::shared_ptr<const Directory> before = directory()) {
    for (const auto& [name, share] : *before) {
      if (share->is_removed()) continue;
      add_before(name, false);
      next->add(name, share);
    }
  }
  add_before("", true);
  MutexLock lock(mutex_);
  directory_ = std::move(next);
}

/// Removed shares that are in use are shown, so that what holds them can be seen and given back.
void Manager::Core::publish_shown() {
  std::shared_ptr<const Directory> shares = directory();
  std::vector<std::shared_ptr<Share>> in_use;
  for (const std::shared_ptr<Share>& share : removed_) {
    const Record* const record = find_record(*share);
    if (record == nullptr) continue;
    if (life_cycle::is_active(record->state) || share->users() > 0 || share->attachment_count() > 0 ||
        is_left_native(*record)) {
      in_use.push_back(share);
    }
  }
  std::shared_ptr<const Directory> shown = shares;
  if (!in_use.empty()) {
    auto with_removed = std::make_shared<Directory>(*shares);
    // Of several with one name the last is shown.
    for (auto share = in_use.rbegin(); share != in_use.rend(); ++share) with_removed->add((*share)->name(), *share);
    shown = std::move(with_removed);
  }
  MutexLock lock(mutex_);
  shown_ = std::move(shown);
  shown_removed_ = std::move(in_use);
}

std::set<std::string> CatalogPlan::changed_names() const {
  std::set<std::string> all = names;
  for (const auto* shares : {&added, &removed}) {
    for (const std::shared_ptr<Share>& share : *shares) all.insert(share->name());
  }
  return all;
}

/// Tells what has been carried out.
void Manager::Core::tell_change(const CatalogPlan& plan, Task then) {
  std::vector<std::shared_ptr<Share>> policies;
  for (const CatalogPlan::NewSpec& one : plan.policies) policies.push_back(one.share);
  tell_names(plan.changed_names(), std::move(policies), std::move(then));
}

void Manager::Core::tell_names(std::set<std::string> names, std::vector<std::shared_ptr<Share>> policies, Task then) {
  untold_.insert(names.begin(), names.end());
  ++telling_;
  auto work = [self = shared_from_this(), names = std::vector<std::string>(names.begin(), names.end()),
               policies = std::move(policies), then = std::move(then)]() mutable {
    crash_point("catalog-untold");
    if (self->setup_.on_catalog_change) self->setup_.on_catalog_change(names, policies);
    Core* const core = self.get();
    core->post([core, then = std::move(then)]() mutable {
      if (--core->telling_ == 0) {
        core->untold_.clear();
        (void)core->catalog_log_.commit(CatalogLog::Change().told());
        if (core->catalog_log_.is_worn()) (void)core->catalog_log_.rewrite(core->whole_catalog());
      }
      then();
      if (core->telling_ != 0) return;
      for (Task& told : std::exchange(core->told_waiters_, {})) core->submit(core->callbacks_.get(), std::move(told));
    });
  };
  submit(callbacks_.get(), std::move(work));
}

void Manager::Core::after_names_told(Task then) {
  if (telling_ == 0) return submit(callbacks_.get(), std::move(then));
  told_waiters_.push_back(std::move(then));
}

void Manager::Core::begin_catalog() {
  end_stray_look_ups();
  if (!untold_.empty()) tell_names(untold_, {}, [] {});
  for (const auto& [share, record] : records_) {
    if (share->standing() != Standing::kCurrent) leave(*record);
  }
  if (!removed_.empty()) look_at_removed_at_ = clock_.now() + kLookAtRemoved;
  count_users_at_ = clock_.now();
  if (!instances_.all().empty()) look_at_instances_at_ = clock_.now() + kLookAtRemoved;
}

void Manager::Core::change_policy(Share& share, const ShareSpec& spec) {
  const bool was_native = is_to_be_native(share);
  if (share.set_spec(spec)) {
    ++earlier_specs_;
    note_forgotten();
  }
  Record* const record = find_record(share);
  if (record == nullptr) {
    if (was_native != is_to_be_native(share)) {
      share.set_native_door(was_native ? NativeDoor::kNone : NativeDoor::kShut);
    }
    return;
  }
  if (auto* const mounted = std::get_if<Mounted>(&record->state)) {
    if (!is_to_be_native(share)) leave(*record);
    mounted->stays = record->mount.holds_only_copy && !spec.policy().idle_timeout_is_own;
    record->timer = clock_.now();
    hold_mounted(*record);
  }
  publish(*record);
  schedule(*record);
}

/// A share that is to go, or not to be native any more. What lies over its directory is taken off at once where the
/// name leads elsewhere now, or callers are to be looked at: programs that are in it stay, in a mount to which no path
/// leads.
void Manager::Core::leave(Record& record) {
  auto* const mounted = std::get_if<Mounted>(&record.state);
  if (mounted != nullptr) {
    if (record.share.is_removed()) mounted->stays = false;
    record.timer = clock_.now();
    mounted->check_native_at = std::min(mounted->check_native_at, clock_.now());
    if (!is_to_be_native(record.share)) {
      answer_native_waiters(record, std::exchange(record.native_waiters, {}));
      if (mounted->native == Native::kOn) {
        mounted->native = Native::kRemoving;
        record.timer.reset();
        start_removing_overmount(record, NativeAccess::When::kAlways, clock_.now() + life_cycle::kNativePatience);
      }
    }
  }
  publish(record);
  schedule(record);
}

/// After each step of a share that is not current.
void Manager::Core::look_at_leaving(Record& record) {
  const auto* const mounted = std::get_if<Mounted>(&record.state);
  if (mounted != nullptr && mounted->native == Native::kOn && !is_to_be_native(record.share)) return leave(record);
  if (record.pending && is_mount_free(record.share)) {
    // Not at once: this may be in the middle of another share's step.
    post([this, &record] {
      if (record.pending && is_mount_free(record.share) && !stopping_) replace(record);
    });
  }
  if (record.share.is_removed() && mounted == nullptr) {
    look_at_removed_at_ = std::min(look_at_removed_at_.value_or(TimePoint::max()), clock_.now());
  }
}

/// What was pending takes the place of what is not in use any more.
void Manager::Core::replace(Record& record) {
  const std::shared_ptr<Share> share = find(record.share.name());
  if (share.get() != &record.share) return;
  CatalogPlan plan;
  plan.last_incarnation = last_incarnation_;
  plan.change.remove(record.share.incarnation());
  plan.removed.push_back(share);
  plan_new(plan, *record.pending);
  if (!commit(plan.change)) return;
  carry_out(plan);
  tell_change(plan, [] {});
}

/// Attachments, and changes of them that are being recorded, are of the share that has the name, as they are on disk:
/// there alone they can be given back. What they held of the old one stays for as long as programs use it.
void Manager::Core::hand_attachments_on(Record& from, Share& to) {
  Record& next = record_of(to);
  for (const std::string& instance : from.share.instances()) {
    // Those that were made; the others are there by their attachments.
    if (from.share.remove_instance(instance)) to.add_instance(instance);
  }
  for (auto& [attachment, lease] : from.attachments) {
    from.share.remove_attachment(attachment);
    to.add_attachment(attachment);
    if (next.attachments.try_emplace(attachment).second) ++next.without_lease;
  }
  // The leases end here.
  from.attachments.clear();
  from.without_lease = 0;
  next.pending_attachments.merge(from.pending_attachments);
  next.attaching += std::exchange(from.attaching, 0);
  from.restore_at.reset();
  schedule(from);
  if (next.without_lease > 0) restore_later(next, clock_.now());
}

/// Whether a program without a lease would miss what is mounted in a share that is to go: one with its working
/// directory there, or one that uses the native share directly.
bool Manager::Core::is_held(const Record& record) const {
  if (is_left_native(record)) return true;
  return record.share.is_removed() && setup_.is_known && setup_.is_known(record.share, !record.mount.holds_only_copy);
}

bool Manager::Core::is_over(Share& share) const {
  if (share.users() > 0 || share.attachment_count() > 0 || !is_mount_free(share)) return false;
  if (const Record* const record = find_record(share); record != nullptr && is_left_native(*record)) return false;
  return !setup_.is_known || !setup_.is_known(share, false);
}

/// From time to time, while there are any.
void Manager::Core::look_at_removed() {
  CatalogLog::Change change;
  std::vector<std::shared_ptr<Share>> left;
  std::vector<std::shared_ptr<Share>> over;
  for (const std::shared_ptr<Share>& share : removed_) {
    Record* const record = find_record(*share);
    if (record != nullptr && std::holds_alternative<Mounted>(record->state)) {
      feed(*share, life_cycle::Timer{share->users() + (is_held(*record) ? 1 : 0), share->last_left()});
    }
    (is_over(*share) ? over : left).push_back(share);
    if (left.empty() || left.back() != share || share->users() > 0 || !setup_.drop_unused) continue;
    submit(callbacks_.get(), [self = shared_from_this(), share] { self->setup_.drop_unused(*share); });
  }
  for (const std::shared_ptr<Share>& share : over) {
    change.forget(share->incarnation());
    Record* const record = find_record(*share);
    if (record == nullptr || record->kept == nullptr) continue;
    MountRecord* const kept = std::exchange(record->kept, nullptr);
    record->failure_is_kept = false;
    setup_.kept->failures[static_cast<std::size_t>(kept - setup_.kept->records.data())].writes = 0;
    kept->state = MountRecord::kNone;
    kept->generation = 0;
    kept->released = 0;
    kept->overmount = 0;
    kept->share = 0;
    free_records_.push_back(kept);
  }
  (void)commit(change);
  over_.insert(over_.end(), over.begin(), over.end());
  if (!over.empty()) note_forgotten();
  removed_ = std::move(left);
  publish_shown();
  look_at_removed_at_.reset();
  if (!removed_.empty()) look_at_removed_at_ = clock_.now() + kLookAtRemoved;
}

/// The next manager has nothing of it. Asked again after a while, in case that came to nothing.
void Manager::Core::note_forgotten() {
  if (over_.size() + earlier_specs_ < most_forgotten_ || !setup_.replace || stopping_) return;
  most_forgotten_ += setup_.max_forgotten / 8 + 1;
  setup_.replace();
}

void Manager::Core::remount(Share& share, bool force, DoneCallback done) {
  if (stopping_) return answer(std::move(done), fail(ESHUTDOWN));
  Record& record = record_of(share);
  if (share.is_removed()) return answer(std::move(done), fail(ENOENT, "it is not in the catalog any more"));
  if (force) {
    // They are of the next mount.
    for (auto& [attachment, lease] : record.attachments) {
      if (!lease) continue;
      lease = Lease();
      ++record.without_lease;
    }
  }
  record.unmount_waiters.push_back([this, &record, done = std::move(done)](Result<> unmounted) mutable {
    post([this, &record, done = std::move(done), unmounted = std::move(unmounted)]() mutable {
      if (!unmounted) return answer(std::move(done), std::move(unmounted));
      if (record.pending && is_mount_free(record.share)) replace(record);
      const std::shared_ptr<Share> now = find(record.share.name());
      if (now == nullptr) return answer(std::move(done), fail(ENOENT));
      Share& next = *now;
      retry(next);
      auto mounted = [done = std::move(done)](Result<Lease> lease) mutable {
        if (!lease) return done(fail(lease.error()));
        *lease = Lease();
        done({});
      };
      await_mount(next, next_waiter(), "remount", on_callback_thread(std::move(mounted)));
    });
  });
  feed(share, life_cycle::UnmountWanted{force});
}

/// A share that is to go has no patience when it is not in use.
life_cycle::Step Manager::Core::step_of(const Record& record, const life_cycle::Input& happening) const {
  const SharePolicy& policy = record.share.spec().policy();
  const bool may_abandon = record.operation != nullptr && record.stuck_mounts < kMostStuckMounts;
  if (record.share.standing() == Standing::kCurrent) {
    return life_cycle::step(record.state, happening, policy, clock_.now(), drained_, may_abandon);
  }
  SharePolicy leaving = policy;
  leaving.idle_timeout = std::chrono::milliseconds(0);
  return life_cycle::step(record.state, happening, leaving, clock_.now(), drained_, may_abandon);
}

}  // namespace berth::manager
