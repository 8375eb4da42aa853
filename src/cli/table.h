#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "src/cli/tree.h"
#include "src/lib/base/result.h"
#include "src/lib/formats/view.h"

namespace berth::cli {

/// What the table of all shares is made of.
struct SharesTable {
  formats::NamespaceView berth;
  std::map<std::string, std::string, std::less<>> reasons;  ///< why a share does not work, by its name
};

/// By "name", "state", "users" (the most first) or "since" (the latest first), and by name where that is the same.
void sort_shares(std::vector<formats::ShareSummary>& shares, std::string_view key);

/// A share's `status`, with its times as of `now`. Errors: those of Tree::read().
Result<std::string> read_share(const Tree& tree, std::string_view share, WallTime now);

/// The shares, in the order of sort_shares(), from the control tree. Errors: those of Tree::read().
Result<SharesTable> read_table(const Tree& tree, std::string_view key);

}  // namespace berth::cli
