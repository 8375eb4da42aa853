#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "manager/share_spec.h"

namespace berth::manager {

/// Most shares in one catalog; what is beyond is refused with an error that says so.
inline constexpr std::size_t kMaxShares = 100'000;

/// The shares there are, by name. No name is a directory above another ("a" and "a/b" cannot both be shares).
///
/// Threading: immutable once built; build it on one thread.
class Catalog {
 public:
  using Map = std::map<std::string, ShareSpec, std::less<>>;

  /// Errors: EEXIST when the name is taken or lies above or below another share (the story names both and their
  /// origins), ENOSPC at kMaxShares.
  Result<> add(ShareSpec spec);

  [[nodiscard]] const ShareSpec* find(std::string_view name) const;
  [[nodiscard]] const Map& shares() const noexcept { return shares_; }

 private:
  Map shares_;
};

}  // namespace berth::manager
