#include "manager/engine/reload_report.h"

#include <algorithm>

#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

/// Shares, and attachments of one, that are named; the rest is counted.
constexpr std::size_t kMostNamed = 20;

void add(std::string& text, const std::string& part, const char* separator) {
  if (!text.empty()) text += separator;
  text += part;
}

std::string told(const ReloadReport::Share& share) {
  std::string what = share.is_pending ? "pending" : "";
  const std::size_t attached = std::min(share.attachments.size(), kMostNamed);
  if (share.users > 0) add(what, std::to_string(share.users) + (share.users == 1 ? " user" : " users"), ", ");
  for (std::size_t i = 0; i < attached; ++i)
    add(what, (i == 0 ? "attached: " : "") + share.attachments[i], i == 0 ? ", " : " ");
  if (attached < share.attachments.size()) {
    what += " and " + std::to_string(share.attachments.size() - attached) + " more";
  }
  return what.empty() ? "" : escape(share.name) + ": " + what;
}

/// "1 changed (media: pending, 3 users)"; only shares of which there is something to say are named.
std::string told(const std::vector<ReloadReport::Share>& shares, const char* change) {
  std::string named;
  std::size_t count = 0;
  for (const ReloadReport::Share& share : shares) {
    const std::string one = told(share);
    if (one.empty() || ++count > kMostNamed) continue;
    add(named, one, "; ");
  }
  if (count > kMostNamed) named += "; and " + std::to_string(count - kMostNamed) + " more";
  std::string text = std::to_string(shares.size()) + " " + change;
  if (!named.empty()) text += " (" + named + ")";
  return text;
}

}  // namespace

std::string to_string(const ReloadReport& report) {
  std::string text;
  if (!report.added.empty()) add(text, "+" + std::to_string(report.added.size()) + " added", ", ");
  if (!report.changed.empty()) add(text, told(report.changed, "changed"), ", ");
  if (!report.removed.empty()) add(text, told(report.removed, "removed"), ", ");
  return text.empty() ? "nothing has changed" : text;
}

}  // namespace berth::manager
