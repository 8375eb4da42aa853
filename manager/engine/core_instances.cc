// Shares that templates make on look-up.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "manager/engine/core.h"
#include "manager/engine/program_look_up.h"
#include "manager/engine/template_values.h"
#include "manager/model/share_template.h"

namespace berth::manager {
namespace {

/// Look-ups of one user that ask a source at once: a source that hangs takes no thread from the other users. Of all
/// users there are as many as there are slots (KeptMounts::look_ups).
constexpr std::size_t kMostAskingOfUser = 4;
/// Names that are being looked up, and callers that wait for one of them.
constexpr std::size_t kMostLookedUp = 4096;
constexpr std::size_t kMostLookedUpOfUser = 256;
constexpr std::size_t kMostWaiting = 1024;

/// How often instances are looked at, and the shortest time that one is kept for without a use.
constexpr std::chrono::seconds kLookAtInstances{10};
constexpr std::chrono::seconds kShortestStay{60};
/// Failed look-ups that are shown.
constexpr std::size_t kMostFailed = 256;

/// Whether one of these has the name, lies below it, or lies above it with at least so many bytes.
template <typename Shares>
bool is_name_taken(const Shares& shares, const std::string& name, std::size_t least_above = 1) {
  return shares.contains(name) || shares.find_below(name) != shares.end() ||
         shares.find_above(name, least_above) != shares.end();
}

std::string_view key_of(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? name : name.substr(slash + 1);
}

}  // namespace

std::shared_ptr<const Catalog::Map> Manager::Core::templates() const {
  MutexLock lock(mutex_);
  return templates_;
}

void Manager::Core::publish_templates() {
  auto templates = std::make_shared<const Catalog::Map>(catalog_.templates());
  instances_.forget_refused();
  browsed_until_.clear();
  MutexLock lock(mutex_);
  failed_look_ups_.clear();
  browsed_.clear();
  templates_ = std::move(templates);
}

const ShareSpec* Manager::Core::template_of(std::string_view name) const {
  const auto found = catalog_.templates().find(Instances::template_of(name));
  return found == catalog_.templates().end() ? nullptr : &found->second;
}

void Manager::Core::answer(ShareCallback done, Result<std::shared_ptr<Share>> found) {
  submit(callbacks_.get(), [done = std::move(done), found = std::move(found)]() mutable { done(std::move(found)); });
}

void Manager::Core::look_up(const std::string& name, uid_t user, ShareCallback done) {
  if (stopping_) return answer(std::move(done), fail(ESHUTDOWN));
  if (const std::shared_ptr<Share> share = find(name)) return answer(std::move(done), share);
  // It is the directory above them.
  if (!instances_.made_of(name).empty()) return answer(std::move(done), std::shared_ptr<Share>());
  const ShareSpec* const pattern = template_of(name);
  if (pattern == nullptr) return answer(std::move(done), fail(ENOENT));
  if (const auto why = instances_.refusal_of(name, clock_.now())) return answer(std::move(done), fail(*why));
  if (look_ups_.contains(name)) return begin_look_up(name, *pattern, false, {user, std::move(done)});
  // What cannot be a key is no name that any template knows.
  const bool is_key = needs_values(*pattern) ? check_key_of(*pattern, key_of(name)).has_value()
                                             : instantiate(*pattern, key_of(name)).has_value();
  if (!is_key) return answer(std::move(done), fail(ENOENT));
  begin_look_up(name, *pattern, false, {user, std::move(done)});
}

/// Waits with the others that ask the same.
void Manager::Core::begin_look_up(const std::string& name, const ShareSpec& pattern, bool is_listing, Looker looker) {
  if (const auto asked = look_ups_.find(name); asked != look_ups_.end()) {
    if (clock_.now() >= asked->second.deadline) return answer(std::move(looker.done), fail(ETIMEDOUT));
    if (asked->second.waiters.size() >= kMostWaiting) return answer(std::move(looker.done), fail(EAGAIN));
    asked->second.waiters.push_back(std::move(looker));
    return;
  }
  const auto is_of_user = [user = looker.user](const auto& one) { return one.second.user == user; };
  if (look_ups_.size() >= kMostLookedUp ||
      std::count_if(look_ups_.begin(), look_ups_.end(), is_of_user) >= std::ptrdiff_t{kMostLookedUpOfUser}) {
    return answer(std::move(looker.done), fail(EAGAIN));
  }
  LookUp& look_up = look_ups_.try_emplace(name, pattern, looker.user).first->second;
  const SharePolicy& policy = pattern.policy();
  look_up.is_listing = is_listing;
  look_up.deadline = clock_.now() + (pattern.program().empty() ? policy.mount_timeout : policy.lookup_timeout);
  look_up.waiters.push_back(std::move(looker));
  look_at_instances_at_ = std::min(look_at_instances_at_.value_or(TimePoint::max()), look_up.deadline);
  to_ask_.push_back(name);
  ask_sources();
}

std::shared_ptr<const std::vector<std::string>> Manager::Core::browsed(const std::string& prefix) const {
  MutexLock lock(mutex_);
  const auto found = browsed_.find(prefix + "*");
  return found == browsed_.end() ? nullptr : found->second;
}

void Manager::Core::browse(const std::string& prefix, uid_t user, ShareCallback done) {
  if (stopping_) return answer(std::move(done), fail(ESHUTDOWN));
  const std::string name = prefix + "*";
  const auto pattern = catalog_.templates().find(name);
  const auto until = browsed_until_.find(name);
  const bool is_fresh = until != browsed_until_.end() && clock_.now() < until->second;
  if (is_fresh || pattern == catalog_.templates().end() || !pattern->second.policy().browse) {
    return answer(std::move(done), std::shared_ptr<Share>());
  }
  begin_look_up(name, pattern->second, true, {user, std::move(done)});
}

/// A list that cannot be had is shown as a failure, and what was listed before goes on.
void Manager::Core::on_listed(LookUp& look_up, const std::string& name, const SourceAnswer& source) {
  const ShareSpec* const pattern = template_of(name);
  if (pattern != nullptr && *pattern == look_up.pattern) {
    const bool is_listed = !source.has_failed;
    browsed_until_[name] =
        clock_.now() + (is_listed ? pattern->policy().negative_timeout : std::chrono::milliseconds(Instances::kFailed));
    note_answered(name);
    if (is_listed) {
      auto keys = std::make_shared<const std::vector<std::string>>(source.keys);
      MutexLock lock(mutex_);
      browsed_[name] = std::move(keys);
    } else {
      note_failed(name, source);
    }
  }
  for (Looker& one : look_up.waiters) answer(std::move(one.done), std::shared_ptr<Share>());
}

/// In turn, but for users that have as many under way as they may have.
void Manager::Core::ask_sources() {
  for (auto name = to_ask_.begin(); name != to_ask_.end() && !free_look_ups_.empty();) {
    const auto found = look_ups_.find(*name);
    if (found != look_ups_.end() && asking_of_user_[found->second.user] >= kMostAskingOfUser) {
      ++name;
      continue;
    }
    name = to_ask_.erase(name);
    if (found == look_ups_.end()) continue;
    LookUp& look_up = found->second;
    look_up.slot = free_look_ups_.back();
    free_look_ups_.pop_back();
    ++asking_;
    ++asking_of_user_[look_up.user];
    LookUp asked(look_up.pattern, look_up.user);
    asked.slot = look_up.slot;
    asked.is_listing = look_up.is_listing;
    submit(look_up_pool_.get(), [self = shared_from_this(), asked = std::move(asked), name = found->first]() mutable {
      SourceAnswer answer = self->ask_source(asked, name);
      self->post([core = self.get(), name = std::move(name), answer = std::move(answer)] {
        core->on_source_asked(name, answer);
      });
    });
  }
}

/// On a pool thread.
SourceAnswer Manager::Core::ask_source(const LookUp& look_up, const std::string& name) {
  const ShareSpec& pattern = look_up.pattern;
  SourceAnswer answer{.specs = fail(ENOENT)};
  LookUpQuestion question{.pattern = pattern, .key = std::string(key_of(name))};
  question.deadline = clock_.now() + pattern.policy().lookup_timeout;
  question.cancel_fd = cancel_.get();
  if (setup_.kept != nullptr) question.programs = &setup_.kept->look_ups[*look_up.slot];
  if (look_up.is_listing) {
    Result<std::vector<std::string>> keys = list_by_source(setup_, std::move(question), look_up.user);
    if (keys) return {.specs = fail(ENOENT), .keys = *std::move(keys)};
    return {.specs = fail(keys.error()), .has_failed = true};
  }
  if (pattern.program().empty()) {
    answer.specs = instantiate_for(pattern, key_of(name), look_up.user).map([](ShareSpec spec) {
      return std::vector<ShareSpec>{std::move(spec)};
    });
  } else {
    ProgramLookUp asked = look_up_by_program(setup_, std::move(question), look_up.user);
    answer = {.specs = std::move(asked.specs), .has_failed = asked.has_failed, .notes = std::move(asked.notes)};
  }
  if (!answer.specs) return answer;
  std::erase_if(*answer.specs, [this](const ShareSpec& spec) {
    const auto backend = setup_.backends.find(spec.kind());
    return backend == setup_.backends.end() || !backend->second->has_source(spec);
  });
  if (answer.specs->empty()) answer.specs = fail(ENOENT);
  return answer;
}

void Manager::Core::on_source_asked(const std::string& name, const SourceAnswer& source) {
  auto asked = look_ups_.extract(name);
  if (asked.empty()) return;
  LookUp& look_up = asked.mapped();
  free_look_ups_.push_back(*look_up.slot);
  --asking_;
  if (--asking_of_user_[look_up.user] == 0) asking_of_user_.erase(look_up.user);
  ask_sources();
  if (look_up.is_listing) return on_listed(look_up, name, source);
  const ShareSpec* const pattern = template_of(name);
  const bool is_known = find(name) != nullptr || !instances_.made_of(name).empty();
  const bool is_same = !stopping_ && pattern != nullptr && *pattern == look_up.pattern;
  if (is_same && look_up.is_again && is_known) return on_asked_again(name, source, *pattern);
  if (!is_same || is_known) {
    // The catalog has changed meanwhile.
    for (Looker& one : look_up.waiters) this->look_up(name, one.user, std::move(one.done));
    return;
  }
  if (source.specs) {
    note_answered(name);
    tell_notes(name, source.notes);
  } else {
    note_refused(name, source, pattern->policy());
  }
  Result<> made = source.specs ? make_instances(name, *source.specs, look_up.user) : fail(source.specs.error());
  const std::shared_ptr<Share> share = find(name);
  for (Looker& one : look_up.waiters) {
    // What is refused is refused to one user.
    if (!made && made.error().code() != ENOENT && !source.has_failed && one.user != look_up.user) {
      this->look_up(name, one.user, std::move(one.done));
      continue;
    }
    answer(std::move(one.done), made ? Result<std::shared_ptr<Share>>(share) : fail(made.error()));
  }
}

/// What no user need ask again for a while.
void Manager::Core::note_refused(const std::string& name, const SourceAnswer& source, const SharePolicy& policy) {
  const Error& why = source.specs.error();
  if (why.code() == ENOENT) {
    note_answered(name);
    return instances_.note_refused(name, Error(ENOENT), clock_.now() + policy.negative_timeout);
  }
  if (!source.has_failed) return;
  instances_.note_refused(name, why, clock_.now() + Instances::kFailed);
  note_failed(name, source);
}

/// Shows the reason.
void Manager::Core::note_failed(const std::string& name, const SourceAnswer& source) {
  const Error& why = source.specs.error();
  if (failures_told_.take(clock_.now()))
    emit({.kind = Event::Kind::kWarning, .share = name, .reason = std::string(why.story()), .code = why.code()});
  note_answered(name);
  MutexLock lock(mutex_);
  if (failed_look_ups_.size() >= kMostFailed) failed_look_ups_.erase(failed_look_ups_.begin());
  failed_look_ups_.push_back({.share = name, .when = clock_.wall_now(), .error = why});
}

/// What of an answer is not carried over, or is otherwise.
void Manager::Core::tell_notes(const std::string& name, const std::vector<std::string>& notes) {
  for (const std::string& note : notes) {
    if (!failures_told_.take(clock_.now())) return;
    emit({.kind = Event::Kind::kWarning, .share = name, .reason = note});
  }
}

/// What the program of its template has answered holds from now on.
void Manager::Core::note_held(const std::string& name) {
  const ShareSpec* const pattern = template_of(name);
  if (pattern == nullptr || pattern->program().empty()) return;
  instances_.set_holds_until(name, clock_.now() + pattern->policy().positive_timeout);
}

/// Of the instances that are in use, about which no look-up will ask.
void Manager::Core::ask_again() {
  for (const auto& [name, instance] : instances_.all()) {
    if (!instance.holds_until || clock_.now() < *instance.holds_until) continue;
    const std::shared_ptr<Share> share = find(name);
    const ShareSpec* const pattern = template_of(instance.looked_up);
    if (share == nullptr || pattern == nullptr || is_unused(*share) || look_ups_.contains(instance.looked_up)) continue;
    if (look_ups_.size() >= kMostLookedUp) break;
    LookUp& look_up = look_ups_.try_emplace(instance.looked_up, *pattern, instance.user).first->second;
    look_up.deadline = clock_.now() + pattern->policy().lookup_timeout;
    look_up.is_again = true;
    to_ask_.push_back(instance.looked_up);
  }
  ask_sources();
}

/// A program that has failed leaves what it has answered before in force.
void Manager::Core::on_asked_again(const std::string& name, const SourceAnswer& source, const ShareSpec& pattern) {
  note_held(name);
  if (source.specs) {
    note_answered(name);
    change_instances(name, *source.specs);
  } else if (source.specs.error().code() == ENOENT) {
    change_instances(name, {});
  } else {
    instances_.set_holds_until(name, clock_.now() + pattern.policy().negative_timeout);
    note_failed(name, source);
  }
}

/// Makes what the name was looked up for these shares, as a reload does.
void Manager::Core::change_instances(const std::string& name, const std::vector<ShareSpec>& specs) {
  CatalogPlan plan;
  plan.last_incarnation = last_incarnation_;
  const std::vector<std::string> before = instances_.made_of(name);
  const uid_t user = before.empty() ? 0 : instances_.user_of(before.front()).value_or(0);
  for (const std::string& one : before) {
    const std::shared_ptr<Share> share = find(one);
    if (share == nullptr) continue;
    const auto spec = std::find_if(specs.begin(), specs.end(), [&](const ShareSpec& s) { return s.name() == one; });
    if (spec == specs.end()) {
      plan.change.remove(share->incarnation());
      plan.removed.push_back(share);
      plan.configured.insert(one);
    } else if (const ShareSpec now = wanted_spec(*share); !(*spec == now)) {
      plan_change(plan, {.before = now, .after = *spec});
    }
  }
  std::vector<std::string> added;
  for (const ShareSpec& spec : specs) {
    if (before.empty() || !is_name_free(spec.name())) continue;
    added.push_back(spec.name());
    instances_.add(spec.name(), name, user, clock_.now());
    plan_new(plan, spec);
  }
  std::sort(plan.added.begin(), plan.added.end(), [](const auto& a, const auto& b) { return a->name() < b->name(); });
  const bool is_same = plan.added.empty() && plan.removed.empty() && plan.policies.empty() && plan.pending.empty() &&
                       plan.settled.empty();
  if (is_same) return;
  if (!commit(plan.change)) {
    for (const std::string& one : added) instances_.remove(one);
    return;
  }
  note_held(name);
  carry_out(plan);
  tell_change(plan, [] {});
}

/// Whether no share has the name, or lies above or below it.
bool Manager::Core::is_name_free(const std::string& name) const { return !is_name_taken(*directory(), name); }

/// What a share is, or will be when it is not in use.
const ShareSpec& Manager::Core::wanted_spec(Share& share) const {
  const Record* const record = find_record(share);
  return record != nullptr && record->pending ? *record->pending : share.spec();
}

/// No failure of it is to be shown any more.
void Manager::Core::note_answered(const std::string& name) {
  MutexLock lock(mutex_);
  std::erase_if(failed_look_ups_, [&name](const FailedLookUp& failed) { return failed.share == name; });
}

std::vector<FailedLookUp> Manager::Core::failed_look_ups() const {
  MutexLock lock(mutex_);
  return failed_look_ups_;
}

/// A thread that hangs in a source is left to the end of the process.
void Manager::Core::end_look_ups() {
  for (auto& [name, look_up] : look_ups_) {
    for (Looker& one : std::exchange(look_up.waiters, {})) answer(std::move(one.done), fail(ESHUTDOWN));
  }
  if (asking_ > 0 && look_up_pool_) look_up_pool_->detach_threads();
}

/// Whether nothing would be missed of it: the kernel may know it all the same.
bool Manager::Core::is_unused(Share& share) const {
  return share.users() == 0 && share.attachment_count() == 0 && share.made_instance_count() == 0 &&
         is_mount_free(share);
}

std::vector<std::shared_ptr<Share>> Manager::Core::instances_of(const std::string& looked_up) const {
  std::vector<std::shared_ptr<Share>> shares;
  for (const std::string& name : instances_.made_of(looked_up)) {
    if (std::shared_ptr<Share> share = find(name)) shares.push_back(std::move(share));
  }
  return shares;
}

/// Of those that `full` counts, but for what was made together with one that is in use. The one that was not used for
/// longest comes first.
std::vector<const Instances::Instance*> Manager::Core::unused_instances(Instances::Full full, const std::string& name,
                                                                        uid_t user) const {
  const std::string of_template = Instances::template_of(name);
  std::vector<std::pair<TimePoint, const Instances::Instance*>> unused;
  std::set<std::string_view> stay_together;  // looked-up names of which a share stays
  for (const auto& [one, instance] : instances_.all()) {
    if (full == Instances::Full::kOfUser && instance.user != user) continue;
    if (full == Instances::Full::kOfTemplate && Instances::template_of(instance.looked_up) != of_template) continue;
    const std::shared_ptr<Share> share = find(one);
    if (share != nullptr && is_unused(*share)) {
      unused.emplace_back(std::max(instance.used, share->last_left()), &instance);
    } else if (one != instance.looked_up) {
      stay_together.insert(instance.looked_up);
    }
  }
  std::stable_sort(unused.begin(), unused.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<const Instances::Instance*> oldest_first;
  for (const auto& [used, instance] : unused) {
    if (!stay_together.contains(instance->looked_up)) oldest_first.push_back(instance);
  }
  return oldest_first;
}

/// Has as much give way as `count` more need. EAGAIN: too much is in use.
Result<> Manager::Core::plan_room(CatalogPlan& plan, const std::string& name, uid_t user, std::size_t count) const {
  using Full = Instances::Full;
  Instances::Counts gone{};
  std::set<std::string_view> names;  // that were looked up for what gives way
  for (const Full limit : {Full::kOfUser, Full::kOfTemplate, Full::kInAll}) {
    const auto is_full = [&] { return instances_.full(name, user, count, gone) == limit; };
    if (!is_full()) continue;
    for (const Instances::Instance* const one : unused_instances(limit, name, user)) {
      if (!is_full()) break;
      if (!names.insert(one->looked_up).second) continue;
      const std::vector<std::shared_ptr<Share>> together = instances_of(one->looked_up);
      gone.in_all += together.size();
      if (one->user == user) gone.of_user += together.size();
      if (Instances::template_of(one->looked_up) == Instances::template_of(name)) gone.of_template += together.size();
      for (const std::shared_ptr<Share>& share : together) plan.change.remove(share->incarnation());
      plan.removed.insert(plan.removed.end(), together.begin(), together.end());
    }
    if (is_full()) return fail(EAGAIN);
  }
  return {};
}

Result<> Manager::Core::make_instances(const std::string& name, std::vector<ShareSpec> specs, uid_t user) {
  if (!is_name_free(name)) return fail(ENOENT);
  TRY_VOID(check_kinds(specs));
  CatalogPlan plan;
  plan.last_incarnation = last_incarnation_;
  TRY_VOID(plan_room(plan, name, user, specs.size()));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (!instances_.take_turn(user, clock_.now())) return fail(EAGAIN);
  }
  std::sort(specs.begin(), specs.end(), [](const auto& a, const auto& b) { return a.name() < b.name(); });
  for (const ShareSpec& spec : specs) {
    instances_.add(spec.name(), name, user, clock_.now());
    plan_new(plan, spec);
  }
  note_held(name);
  // The kernel learns the name by the answer.
  const bool is_told = plan.removed.empty() && telling_ == 0 && untold_.empty();
  if (is_told) plan.change.told();
  if (Result<> kept = commit(plan.change); !kept) {
    for (const ShareSpec& spec : specs) instances_.remove(spec.name());
    return kept;
  }
  std::set<std::string> gone;
  for (const std::shared_ptr<Share>& given_up : plan.removed) gone.insert(given_up->name());
  carry_out(plan);
  if (!gone.empty()) tell_names(std::move(gone), {}, [] {});
  if (!look_at_instances_at_) look_at_instances_at_ = clock_.now() + kLookAtInstances;
  return {};
}

/// What a template had made before all of berth ended, and attachments hold: its source is not asked, for the host may
/// be about to boot.
/// False: nothing is made. A share of one caller is made by that caller.
bool Manager::Core::restore_instance(const StoredAttachments& one) {
  const std::shared_ptr<const Directory> shares = shown();
  const ShareSpec* const pattern = template_of(one.share);
  if (shares->find(one.share) != shares->end() || pattern == nullptr || needs_values(*pattern)) return false;
  const Result<ShareSpec> spec = instantiate(*pattern, key_of(one.share));
  if (!spec || !make_instances(one.share, {*spec}, 0)) return false;
  Share& share = *find(one.share);
  for (const Attachment& attachment : one.attachments) {
    if (attachment.volume.empty()) {
      share.add_instance(attachment.instance);
    } else {
      share.add_attachment(attachment);
    }
  }
  return true;
}

/// From time to time, while there are any.
void Manager::Core::look_at_instances() {
  const TimePoint now = clock_.now();
  look_at_instances_at_.reset();
  for (auto& [name, look_up] : look_ups_) {
    if (now >= look_up.deadline) {
      for (Looker& one : std::exchange(look_up.waiters, {})) answer(std::move(one.done), fail(ETIMEDOUT));
    }
    const TimePoint at = now >= look_up.deadline ? now + kLookAtInstances : look_up.deadline;
    look_at_instances_at_ = std::min(look_at_instances_at_.value_or(TimePoint::max()), at);
  }
  forget_instances();
  ask_again();
  if (instances_.all().empty()) return;
  look_at_instances_at_ = std::min(look_at_instances_at_.value_or(TimePoint::max()), now + kLookAtInstances);
}

/// Those that no program has used for long, and of which the kernel knows nothing: all that one look-up has made, or
/// nothing of it.
void Manager::Core::forget_instances() {
  const TimePoint now = clock_.now();
  CatalogPlan plan;
  plan.last_incarnation = last_incarnation_;
  std::set<std::string> stay_together;  // looked-up names of which a share stays
  std::vector<std::pair<std::shared_ptr<Share>, const Instances::Instance*>> unused;
  for (const auto& [name, instance] : instances_.all()) {
    const std::shared_ptr<Share> share = find(name);
    if (share != nullptr && may_be_forgotten(share, instance, now)) {
      unused.emplace_back(share, &instance);
    } else if (name != instance.looked_up) {
      stay_together.insert(instance.looked_up);
    }
  }
  for (const auto& [share, instance] : unused) {
    if (stay_together.contains(instance->looked_up)) continue;
    plan.change.remove(share->incarnation());
    plan.removed.push_back(share);
  }
  if (plan.removed.empty() || !commit(plan.change)) return;
  carry_out(plan);
  tell_change(plan, [] {});
}

bool Manager::Core::may_be_forgotten(const std::shared_ptr<Share>& share, const Instances::Instance& instance,
                                     TimePoint now) {
  if (!is_unused(*share)) return false;
  const Duration stay = std::max<Duration>(2 * share->spec().policy().idle_timeout, kShortestStay);
  const bool holds = !instance.holds_until || now < *instance.holds_until;
  if (holds && now < std::max(instance.used, share->last_left()) + stay) return false;
  if (!setup_.is_known || !setup_.is_known(*share, false)) return true;
  if (setup_.drop_unused)
    submit(callbacks_.get(), [self = shared_from_this(), share] { self->setup_.drop_unused(*share); });
  return false;
}

/// Of those that an earlier manager has made: by which look-up, their templates tell.
void Manager::Core::take_over_instances(const std::map<std::string, uid_t>& instances) {
  for (const auto& [name, user] : instances) {
    std::string looked_up = name;
    for (std::size_t end = 0; template_of(looked_up) == nullptr && end != std::string::npos;) {
      end = looked_up.rfind('/');
      if (end != std::string::npos) looked_up.resize(end);
    }
    instances_.add(name, template_of(looked_up) == nullptr ? name : looked_up, user, clock_.now());
  }
}

/// What another catalog makes of the instances that there are. They are by their templates what shares are by their
/// sections: the same template leaves them alone, another one changes them, and none removes them.
void Manager::Core::plan_instances(CatalogPlan& plan, const Catalog& next) {
  for (const auto& [name, instance] : instances_.all()) {
    const std::shared_ptr<Share> share = find(name);
    if (share == nullptr) continue;
    const auto pattern = next.templates().find(Instances::template_of(instance.looked_up));
    if (!is_name_taken(next.shares(), name, instance.looked_up.size()) && pattern != next.templates().end()) {
      const ShareSpec* const before = template_of(instance.looked_up);
      if (before != nullptr && *before == pattern->second) continue;
      // One that needs to know its caller is made anew at the next look-up, and so are those that are several.
      Result<ShareSpec> after = name == instance.looked_up ? instantiate(pattern->second, key_of(name)) : fail(ENOENT);
      if (after && check_kinds({*after})) {
        const ShareSpec& now = wanted_spec(*share);
        if (!(*after == now)) plan_change(plan, {.before = now, .after = *std::move(after)});
        continue;
      }
    }
    plan.change.remove(share->incarnation());
    plan.removed.push_back(share);
    plan.configured.insert(name);
    plan.report.removed.push_back(report_of(*share));
  }
}

/// Templates have numbers in the log as shares have, and nothing else of a share.
void Manager::Core::plan_templates(CatalogPlan& plan, const Catalog& next) {
  plan.templates = templates_kept_;
  for (const auto& [name, spec] : catalog_.templates()) {
    if (next.templates().contains(name)) continue;
    const auto kept = plan.templates->find(std::string(name));
    if (kept != plan.templates->end()) {
      plan.change.forget(kept->second);
      plan.templates->erase(kept);
    }
    plan.report.removed.push_back({.name = std::string(name)});
    plan.names.insert(std::string(name));
  }
  for (const auto& [name, spec] : next.templates()) {
    const auto before = catalog_.templates().find(name);
    const bool is_new = before == catalog_.templates().end();
    if (!is_new && before->second == spec) continue;
    const auto kept = plan.templates->try_emplace(std::string(name), 0).first;
    if (kept->second == 0) kept->second = ++plan.last_incarnation;
    plan.change.put(kept->second, spec, false);
    if (!is_new) {
      plan.report.changed.push_back({.name = std::string(name)});
      continue;
    }
    plan.report.added.emplace_back(name);
    plan.names.insert(std::string(name));
  }
}

}  // namespace berth::manager
