#include "fuse/control/control_path.h"

#include <span>
#include <utility>

#include "src/lib/formats/names.h"

namespace berth::fuse {

namespace {

using Kind = ControlPath::Kind;
using Directory = manager::Manager::Directory;

struct FixedName {
  std::string_view name;
  Kind kind;
};

constexpr FixedName kInRoot[] = {
    {formats::kVersion, Kind::kVersion},       {formats::kStatus, Kind::kStatus},
    {formats::kStatusJson, Kind::kStatusJson}, {formats::kEvents, Kind::kEvents},
    {formats::kControl, Kind::kControl},       {formats::kReload, Kind::kReload},
    {formats::kMetrics, Kind::kMetrics},       {formats::kSources, Kind::kSources},
    {formats::kShares, Kind::kPrefix},         {formats::kReloadDryRun, Kind::kReloadDryRun},
};

constexpr FixedName kInShare[] = {
    {formats::kState, Kind::kShareState},           {formats::kStatus, Kind::kShareStatus},
    {formats::kStatusJson, Kind::kShareStatusJson}, {formats::kError, Kind::kShareError},
    {formats::kUsers, Kind::kShareUsers},           {formats::kLog, Kind::kShareLog},
    {formats::kControl, Kind::kShareControl},       {formats::kAttachments, Kind::kAttachments},
};

constexpr FixedName kInVolume[] = {{formats::kAttached, Kind::kAttached}};

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

/// What the names of shares below a kPrefix directory begin with: "", "home/".
std::string prefix_of(const ControlPath& names) { return names.share.empty() ? std::string() : names.share + "/"; }

/// A name in a directory above shares: of a share, or of a further directory. No name is both (Catalog).
std::optional<ControlPath> find_in_prefix(const ControlPath& names, std::string_view name, const Directory& shares) {
  const std::string full = prefix_of(names).append(name);
  if (shares.contains(full)) return ControlPath{.kind = Kind::kShare, .share = full};
  const std::string below = full + "/";
  const auto next = shares.lower_bound(below);
  if (next == shares.end() || !next->first.starts_with(below)) return std::nullopt;
  return ControlPath{.kind = Kind::kPrefix, .share = full};
}

std::vector<ControlName> list_prefix(const ControlPath& names, const Directory& shares) {
  std::vector<ControlName> list;
  const std::string prefix = prefix_of(names);
  for (auto at = shares.lower_bound(prefix); at != shares.end() && at->first.starts_with(prefix);) {
    const std::string_view rest = at->first.substr(prefix.size());
    const std::size_t slash = rest.find('/');
    list.push_back(
        {.name = std::string(rest.substr(0, slash)), .kind = slash == rest.npos ? Kind::kShare : Kind::kPrefix});
    // All that lies below a directory sorts before its name with the character after '/'.
    at =
        slash == rest.npos ? std::next(at) : shares.lower_bound(prefix + list.back().name + static_cast<char>('/' + 1));
  }
  return list;
}

}  // namespace

bool is_directory(Kind kind) noexcept {
  return kind == Kind::kRoot || kind == Kind::kPrefix || kind == Kind::kShare || kind == Kind::kAttachments ||
         kind == Kind::kInstance || kind == Kind::kVolume;
}

bool is_control(Kind kind) noexcept { return kind == Kind::kControl || kind == Kind::kShareControl; }

bool is_private(Kind kind) noexcept {
  return kind == Kind::kShareLog || kind == Kind::kReload || kind == Kind::kReloadDryRun || kind == Kind::kSources;
}

bool is_of_share(Kind kind) noexcept { return kind >= Kind::kShare; }

std::string to_string(const ControlPath& path) {
  if (path.kind == Kind::kRoot) return "";
  if (!is_of_share(path.kind) && path.kind != Kind::kPrefix) return std::string(fixed_name_of(path.kind));
  std::string text(formats::kShares);
  if (!path.share.empty()) text.append("/").append(path.share);
  if (path.kind == Kind::kPrefix || path.kind == Kind::kShare) return text;
  const bool in_volume = path.kind == Kind::kVolume || path.kind == Kind::kAttached;
  const bool attached = path.kind == Kind::kInstance || in_volume;
  text.append("/").append(attached ? formats::kAttachments : fixed_name_of(path.kind));
  if (attached) text.append("/").append(path.instance);
  if (in_volume) text.append("/").append(path.volume);
  if (path.kind == Kind::kAttached) text.append("/").append(formats::kAttached);
  return text;
}

std::optional<ControlPath> find_child(const ControlPath& parent, std::string_view name, const Directory& shares) {
  if (parent.kind == Kind::kPrefix) return find_in_prefix(parent, name, shares);
  for (const FixedName& fixed : fixed_names_in(parent.kind)) {
    if (fixed.name != name) continue;
    ControlPath path = parent;
    path.kind = fixed.kind;
    return path;
  }
  return std::nullopt;
}

std::vector<ControlName> list_children(const ControlPath& directory, const Directory& shares) {
  if (directory.kind == Kind::kPrefix) return list_prefix(directory, shares);
  std::vector<ControlName> list;
  for (const FixedName& fixed : fixed_names_in(directory.kind)) {
    list.push_back({.name = std::string(fixed.name), .kind = fixed.kind});
  }
  return list;
}

}  // namespace berth::fuse
