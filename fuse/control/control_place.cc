#include "fuse/control/control_place.h"

#include <span>
#include <utility>

#include "src/lib/formats/names.h"

namespace berth::fuse {

namespace {

using Kind = Place::Kind;
using Directory = manager::Manager::Directory;

struct FixedName {
  std::string_view name;
  Kind kind;
};

constexpr FixedName kInRoot[] = {
    {control::kVersion, Kind::kVersion}, {control::kStatus, Kind::kStatus},   {control::kStatusJson, Kind::kStatusJson},
    {control::kEvents, Kind::kEvents},   {control::kControl, Kind::kControl}, {control::kShares, Kind::kNames},
};

constexpr FixedName kInShare[] = {
    {control::kState, Kind::kShareState},           {control::kStatus, Kind::kShareStatus},
    {control::kStatusJson, Kind::kShareStatusJson}, {control::kError, Kind::kShareError},
    {control::kUsers, Kind::kShareUsers},           {control::kLog, Kind::kShareLog},
    {control::kControl, Kind::kShareControl},       {control::kAttachments, Kind::kAttachments},
};

constexpr FixedName kInVolume[] = {{control::kAttached, Kind::kAttached}};

std::span<const FixedName> fixed_names_in(Kind kind) noexcept {
  if (kind == Kind::kRoot) return kInRoot;
  if (kind == Kind::kShare) return kInShare;
  if (kind == Kind::kVolume) return kInVolume;
  return {};
}

std::string_view fixed_name_of(Kind kind) noexcept {
  for (const FixedName& fixed : kInRoot) {
    if (fixed.kind == kind) return fixed.name;
  }
  for (const FixedName& fixed : kInShare) {
    if (fixed.kind == kind) return fixed.name;
  }
  return {};
}

/// What the names of shares below a kNames directory begin with: "", "home/".
std::string prefix_of(const Place& names) { return names.share.empty() ? std::string() : names.share + "/"; }

/// A name in a directory above shares: of a share, or of a further directory. No name is both (Catalog).
std::optional<Place> find_in_names(const Place& names, std::string_view name, const Directory& shares) {
  const std::string full = prefix_of(names).append(name);
  if (shares.contains(full)) return Place{.kind = Kind::kShare, .share = full};
  const std::string below = full + "/";
  const auto next = shares.lower_bound(below);
  if (next == shares.end() || !next->first.starts_with(below)) return std::nullopt;
  return Place{.kind = Kind::kNames, .share = full};
}

std::vector<PlaceName> list_names(const Place& names, const Directory& shares) {
  std::vector<PlaceName> list;
  const std::string prefix = prefix_of(names);
  for (auto at = shares.lower_bound(prefix); at != shares.end() && at->first.starts_with(prefix);) {
    const std::string_view rest = at->first.substr(prefix.size());
    const std::size_t slash = rest.find('/');
    list.push_back(
        {.name = std::string(rest.substr(0, slash)), .kind = slash == rest.npos ? Kind::kShare : Kind::kNames});
    // All that lies below a directory sorts before its name with the character after '/'.
    at =
        slash == rest.npos ? std::next(at) : shares.lower_bound(prefix + list.back().name + static_cast<char>('/' + 1));
  }
  return list;
}

}  // namespace

bool is_directory(Kind kind) noexcept {
  return kind == Kind::kRoot || kind == Kind::kNames || kind == Kind::kShare || kind == Kind::kAttachments ||
         kind == Kind::kInstance || kind == Kind::kVolume;
}

bool is_control(Kind kind) noexcept { return kind == Kind::kControl || kind == Kind::kShareControl; }

bool is_of_share(Kind kind) noexcept { return kind >= Kind::kShare; }

std::string path_of(const Place& place) {
  if (place.kind == Kind::kRoot) return "";
  if (!is_of_share(place.kind) && place.kind != Kind::kNames) return std::string(fixed_name_of(place.kind));
  std::string path(control::kShares);
  if (!place.share.empty()) path.append("/").append(place.share);
  if (place.kind == Kind::kNames || place.kind == Kind::kShare) return path;
  const bool in_volume = place.kind == Kind::kVolume || place.kind == Kind::kAttached;
  const bool attached = place.kind == Kind::kInstance || in_volume;
  path.append("/").append(attached ? control::kAttachments : fixed_name_of(place.kind));
  if (attached) path.append("/").append(place.instance);
  if (in_volume) path.append("/").append(place.volume);
  if (place.kind == Kind::kAttached) path.append("/").append(control::kAttached);
  return path;
}

std::optional<Place> find_child(const Place& parent, std::string_view name, const Directory& shares) {
  if (parent.kind == Kind::kNames) return find_in_names(parent, name, shares);
  for (const FixedName& fixed : fixed_names_in(parent.kind)) {
    if (fixed.name != name) continue;
    Place place = parent;
    place.kind = fixed.kind;
    return place;
  }
  return std::nullopt;
}

std::vector<PlaceName> list_children(const Place& directory, const Directory& shares) {
  if (directory.kind == Kind::kNames) return list_names(directory, shares);
  std::vector<PlaceName> list;
  for (const FixedName& fixed : fixed_names_in(directory.kind)) {
    list.push_back({.name = std::string(fixed.name), .kind = fixed.kind});
  }
  return list;
}

}  // namespace berth::fuse
