#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "manager/model/catalog.h"

namespace berth::manager {

/// Most shares that stand in a row by `requires`, the first and the last included.
inline constexpr std::size_t kMostInARow = 16;

/// What is wrong with the `requires` of one share.
struct RequirementFault {
  ShareSpec share;     ///< or template
  std::string reason;  ///< "\"b\" is no share", "it requires itself: a -> b -> a"
};

/// All that is wrong with `requires` in a catalog: a name that is no share and that no template makes, a share that
/// requires itself through whichever others, more than kMostInARow in a row. Each circle is told once.
std::vector<RequirementFault> faults_of_requirements(const Catalog& catalog);

/// `next`, and those shares and templates of `before` that stay (Catalog::keep()): whose name is free and whose
/// requirements are there.
Catalog with_kept(Catalog next, const Catalog& before);

/// The share of that name, or the template that makes it; null: neither is there.
const ShareSpec* find_maker(const Catalog& catalog, std::string_view name);

}  // namespace berth::manager
