#include "src/cli/table.h"

#include <algorithm>
#include <utility>

#include "src/lib/formats/json.h"
#include "src/lib/formats/names.h"
#include "src/lib/formats/render.h"

namespace berth::cli {
namespace {

/// The reasons of shares that do not work, as far as a reader has patience for them.
std::map<std::string, std::string, std::less<>> reasons_of(const Tree& tree,
                                                           const std::vector<formats::ShareSummary>& shares) {
  constexpr std::size_t kMost = 256;
  std::map<std::string, std::string, std::less<>> reasons;
  for (const formats::ShareSummary& share : shares) {
    if (share.state != "failed" || reasons.size() >= kMost) continue;
    const std::string error = tree.read(share.name, formats::kError).value_or("");
    const std::string_view reason = formats::last_words(error);
    if (!reason.empty()) reasons.emplace(share.name, reason);
  }
  return reasons;
}

}  // namespace

void sort_shares(std::vector<formats::ShareSummary>& shares, std::string_view key) {
  using Share = formats::ShareSummary;
  const auto less = [key](const Share& a, const Share& b) {
    if (key == "state") return a.state < b.state;
    if (key == "users") return a.users > b.users;
    if (key == "since") return a.since > b.since;
    return a.name < b.name;
  };
  std::sort(shares.begin(), shares.end(), [](const Share& a, const Share& b) { return a.name < b.name; });
  std::stable_sort(shares.begin(), shares.end(), less);
}

Result<std::string> read_share(const Tree& tree, std::string_view share, WallTime now) {
  const std::string text = TRY(tree.read(share, formats::kStatusJson));
  return formats::parse_share_json(text)
      .map([&](const formats::ShareView& view) { return formats::render_status(view, now); })
      .map_error([](const Error& error) { return error.within(formats::kStatusJson); });
}

Result<SharesTable> read_table(const Tree& tree, std::string_view key) {
  const std::string text = TRY(tree.read(formats::kStatusJson));
  SharesTable table;
  table.berth = TRY(
      formats::parse_namespace_json(text).map_error([](Error error) { return error.within(formats::kStatusJson); }));
  sort_shares(table.berth.shares, key);
  table.reasons = reasons_of(tree, table.berth.shares);
  return table;
}

}  // namespace berth::cli
