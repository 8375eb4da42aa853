#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/model/share_spec.h"
#include "src/lib/base/name_map.h"

namespace berth::manager {

/// Most shares in one catalog; a larger one is refused with an error that names the limit.
inline constexpr std::size_t kMaxShares = 100'000;

/// The shares there are, by name. No name is a directory above another ("a" and "a/b" cannot both be shares). Templates
/// are kept apart: they are not shares, and a share of its own name goes before what a template would make ("home/bob"
/// and "home/*" can both be there; "home" and "home/*" cannot, for the template needs "home" as a directory).
///
/// Threading: immutable once built; build it on one thread.
class Catalog {
 public:
  using Map = NameMap<ShareSpec>;

  /// Errors: EEXIST when the name is taken or lies above or below another share (the story names both and their
  /// origins), ENOSPC when there are kMaxShares shares and templates.
  Result<> add(ShareSpec spec);

  /// Which shares come from this file is not known: those that are in force stay (with_kept()).
  void keep(std::string file) { kept_files_.push_back(std::move(file)); }
  [[nodiscard]] const std::vector<std::string>& kept_files() const noexcept { return kept_files_; }

  [[nodiscard]] const ShareSpec* find(std::string_view name) const;
  [[nodiscard]] const Map& shares() const noexcept { return shares_; }
  /// By their names, "home/*".
  [[nodiscard]] const Map& templates() const noexcept { return templates_; }

 private:
  Map shares_;
  Map templates_;
  std::vector<std::string> kept_files_;
};

/// What becomes of a catalog when another one takes its place, by the names of the shares alone: where a share is
/// written, and in which order, makes no difference. Each list is in the order of the names.
struct CatalogDifference {
  struct Changed {
    ShareSpec before, after;
  };
  std::vector<ShareSpec> added;
  std::vector<Changed> changed;
  std::vector<ShareSpec> removed;

  [[nodiscard]] bool empty() const noexcept { return added.empty() && changed.empty() && removed.empty(); }
};
/// In one pass over both. Templates are no shares, and left out.
CatalogDifference difference(const Catalog& before, const Catalog& after);

}  // namespace berth::manager
