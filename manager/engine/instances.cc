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

std::string Instances::template_of(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  return std::string(name.substr(0, slash == std::string_view::npos ? 0 : slash + 1)) + "*";
}

void Instances::add(const std::string& name, uid_t user, TimePoint now) {
  if (!instances_.try_emplace(name, Instance{.user = user, .used = now}).second) return;
  ++of_user_[user];
  ++of_template_[template_of(name)];
}

void Instances::set_holds_until(std::string_view name, TimePoint until) {
  const auto found = instances_.find(name);
  if (found != instances_.end()) found->second.holds_until = until;
}

void Instances::remove(std::string_view name) {
  const auto found = instances_.find(name);
  if (found == instances_.end()) return;
  take_one(of_user_, found->second.user);
  take_one(of_template_, template_of(name));
  instances_.erase(found);
}

std::optional<uid_t> Instances::user_of(std::string_view name) const {
  const auto found = instances_.find(name);
  if (found == instances_.end()) return std::nullopt;
  return found->second.user;
}

Instances::Full Instances::full(std::string_view name, uid_t user) const {
  if (user != 0 && count_of(of_user_, user) >= limits_.of_user) return Full::kOfUser;
  if (count_of(of_template_, template_of(name)) >= limits_.of_template) return Full::kOfTemplate;
  return instances_.size() >= limits_.in_all ? Full::kInAll : Full::kNo;
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
