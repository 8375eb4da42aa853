#include "manager/model/catalog.h"

#include <cerrno>

#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

/// The directory that holds a share, or the instances of a template: "home" of "home/alice" and of "home/*".
std::string_view parent_of(std::string_view name) noexcept {
  const std::size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : name.substr(0, slash);
}

std::string told(const ShareSpec& spec) {
  return "share " + quote(spec.name()) + (spec.origin().empty() ? "" : " (" + spec.origin() + ")");
}

/// A share that is a directory above `name`, if one is.
const ShareSpec* find_above(const Catalog::Map& shares, std::string_view name) {
  for (std::string_view above = parent_of(name); !above.empty(); above = parent_of(above)) {
    if (const auto found = shares.find(above); found != shares.end()) return &found->second;
  }
  return nullptr;
}

/// A share or template that needs `name` to be a directory, if one does.
const ShareSpec* find_below(const Catalog::Map& shares, std::string_view name) {
  const std::string prefix = std::string(name) + "/";
  const auto found = shares.lower_bound(prefix);
  return found != shares.end() && found->first.starts_with(prefix) ? &found->second : nullptr;
}

}  // namespace

Result<> Catalog::add(ShareSpec spec) {
  Map& map = spec.is_template() ? templates_ : shares_;
  if (const auto same = map.find(spec.name()); same != map.end()) {
    return fail(EEXIST, told(spec) + " is there already: " + told(same->second));
  }
  if (shares_.size() + templates_.size() >= kMaxShares) {
    return fail(ENOSPC, told(spec) + " is one too many; a catalog has at most " + std::to_string(kMaxShares));
  }
  constexpr const char* kWhy = ", which would have to be a directory above it";
  if (const ShareSpec* above = find_above(shares_, spec.name())) {
    return fail(EEXIST, told(spec) + " lies inside of " + told(*above) + kWhy);
  }
  if (!spec.is_template()) {
    const ShareSpec* below = find_below(shares_, spec.name());
    if (below == nullptr) below = find_below(templates_, spec.name());
    if (below != nullptr) return fail(EEXIST, told(*below) + " lies inside of " + told(spec) + kWhy);
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
