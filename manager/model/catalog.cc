#include "manager/model/catalog.h"

#include <cerrno>

#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

std::string told(const ShareSpec& spec) {
  return "share " + quote(spec.name()) + (spec.origin().empty() ? "" : " (" + spec.origin() + ")");
}

}  // namespace

Result<> Catalog::add(ShareSpec spec) {
  Map& map = spec.is_template() ? templates_ : shares_;
  if (const auto same = map.find(spec.name()); same != map.end()) {
    const std::string there = same->second.origin();
    return fail(EEXIST, told(spec) + " is there already" + (there.empty() ? "" : ", in " + there));
  }
  if (shares_.size() + templates_.size() >= kMaxShares) {
    return fail(ENOSPC, told(spec) + " is one too many; a catalog has at most " + std::to_string(kMaxShares));
  }
  constexpr const char* kWhy = ", which would have to be a directory above it";
  if (const auto above = shares_.find_above(spec.name()); above != shares_.end()) {
    return fail(EEXIST, told(spec) + " lies inside of " + told(above->second) + kWhy);
  }
  for (const Map* const others : {&shares_, &templates_}) {
    const auto below = others->find_below(spec.name());
    if (below == others->end()) continue;
    return fail(EEXIST, told(below->second) + " lies inside of " + told(spec) + kWhy);
  }
  const std::string_view name = spec.name();
  map.add(name, std::move(spec));
  return {};
}

const ShareSpec* Catalog::find(std::string_view name) const {
  const auto found = shares_.find(name);
  return found == shares_.end() ? nullptr : &found->second;
}

CatalogDifference difference(const Catalog& before, const Catalog& after) {
  CatalogDifference found;
  auto old = before.shares().begin();
  auto now = after.shares().begin();
  while (old != before.shares().end() || now != after.shares().end()) {
    const bool is_added = old == before.shares().end() || (now != after.shares().end() && now->first < old->first);
    const bool is_removed = now == after.shares().end() || (!is_added && old->first < now->first);
    if (is_added) {
      found.added.push_back((now++)->second);
    } else if (is_removed) {
      found.removed.push_back((old++)->second);
    } else {
      if (!(old->second == now->second)) found.changed.push_back({.before = old->second, .after = now->second});
      ++old;
      ++now;
    }
  }
  return found;
}

}  // namespace berth::manager
