#include "manager/engine/instances.h"

#include <algorithm>
#include <utility>

namespace berth::manager {
namespace {

template <typename Counts, typename Key>
std::size_t count_of(const Counts& counts, const Key& key) {
  const auto found = counts.find(key);
  return found == counts.end() ? 0 : found->second;
}

template <typename Counts, typename Key>
void take_one(Counts& counts, const Key& key) {
  const auto found = counts.find(key);
  if (found != counts.end() && --found->second == 0) counts.erase(found);
}

}  // namespace

std::string Instances::template_of(std::string_view looked_up) {
  const std::size_t slash = looked_up.rfind('/');
  return std::string(looked_up.substr(0, slash == std::string_view::npos ? 0 : slash + 1)) + "*";
}

void Instances::add(const std::string& name, const std::string& looked_up, uid_t user, TimePoint now) {
  const Instance instance{.user = user, .looked_up = looked_up, .used = now};
  if (!instances_.try_emplace(name, instance).second) return;
  ++of_user_[user];
  ++of_template_[template_of(looked_up)];
}

void Instances::set_holds_until(const std::string& looked_up, TimePoint until) {
  for (const std::string& name : made_of(looked_up)) instances_.find(name)->second.holds_until = until;
}

std::vector<std::string> Instances::made_of(const std::string& looked_up) const {
  std::vector<std::string> names;
  if (instances_.contains(looked_up)) names.push_back(looked_up);
  const std::string below = looked_up + "/";
  for (auto at = instances_.lower_bound(below); at != instances_.end() && at->first.starts_with(below); ++at) {
    if (at->second.looked_up == looked_up) names.push_back(at->first);
  }
  return names;
}

void Instances::remove(std::string_view name) {
  const auto found = instances_.find(name);
  if (found == instances_.end()) return;
  take_one(of_user_, found->second.user);
  take_one(of_template_, template_of(found->second.looked_up));
  instances_.erase(found);
}

std::optional<uid_t> Instances::user_of(std::string_view name) const {
  const auto found = instances_.find(name);
  if (found == instances_.end()) return std::nullopt;
  return found->second.user;
}

Instances::Full Instances::full(std::string_view looked_up, uid_t user, std::size_t count, const Counts& gone) const {
  const auto is_over = [count](std::size_t there, std::size_t less, std::size_t limit) {
    return there + count > limit + less;
  };
  if (user != 0 && is_over(count_of(of_user_, user), gone.of_user, limits_.of_user)) return Full::kOfUser;
  if (is_over(count_of(of_template_, template_of(looked_up)), gone.of_template, limits_.of_template))
    return Full::kOfTemplate;
  return is_over(instances_.size(), gone.in_all, limits_.in_all) ? Full::kInAll : Full::kNo;
}

bool Instances::take_turn(uid_t user, TimePoint now) {
  if (user == 0) return true;
  const auto refilled = [now](const Turns& turns) {
    return std::min(kBurst, turns.left + std::chrono::duration<double>(now - turns.at) / kRefill);
  };
  // Those that have all of them again are as good as new.
  constexpr std::size_t kManyUsers = 4096;
  if (turns_.size() >= kManyUsers && !turns_.contains(user)) {
    std::erase_if(turns_, [&](const auto& one) { return refilled(one.second) >= kBurst; });
    if (turns_.size() >= 16 * kManyUsers) return false;
  }
  Turns& turns = turns_.try_emplace(user, Turns{kBurst, now}).first->second;
  turns = {refilled(turns), now};
  if (turns.left < 1) return false;
  turns.left -= 1;
  return true;
}

void Instances::note_refused(const std::string& name, Error why, TimePoint until) {
  if (!refused_.insert_or_assign(name, Refusal{std::move(why), until}).second) return;
  refused_order_.push_back(name);
  if (refused_order_.size() <= kMostRefused) return;
  refused_.erase(refused_order_.front());
  refused_order_.pop_front();
}

std::optional<Error> Instances::refusal_of(std::string_view name, TimePoint now) const {
  const auto found = refused_.find(name);
  if (found == refused_.end() || now >= found->second.until) return std::nullopt;
  return found->second.why;
}

void Instances::forget_refused() {
  refused_.clear();
  refused_order_.clear();
}

}  // namespace berth::manager
