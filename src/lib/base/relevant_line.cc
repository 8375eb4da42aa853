#include "src/lib/base/relevant_line.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "src/lib/base/ascii.h"

namespace berth {
namespace {

template <std::size_t kSize>
bool contains_any(std::string_view text, const std::array<std::string_view, kSize>& all) noexcept {
  return std::any_of(all.begin(), all.end(),
                     [text](std::string_view words) { return contains_ignoring_case(text, words); });
}

/// Hints where more can be read, and usage lines of a program.
constexpr std::array<std::string_view, 12> kHints{
    "refer to the", "manual page", "dmesg(1)", "for more information",    "for more details", "--help", "usage:",
    "try '",        "see \"man",   "(hint)",   "for several filesystems", "/var/log/"};

/// What follows from a cause that was written before.
constexpr std::array<std::string_view, 12> kConsequences{"connection reset by peer",
                                                         "broken pipe",
                                                         "connection closed by",
                                                         "remote host has disconnected",
                                                         "exiting",
                                                         "giving up",
                                                         "shutting down",
                                                         "terminated",
                                                         "aborting",
                                                         "mount failed",
                                                         "failed to mount",
                                                         "cleaning up"};

/// What a cause is named with.
constexpr std::array<std::string_view, 44> kCauses{
    "denied",   "refused",  "error",        "fatal",         "cannot",        "can't",     "could not", "couldn't",
    "unable",   "failed",   "failure",      "no such",       "not found",     "does not",  "doesn't",   "didn't",
    "invalid",  "unknown",  "unrecognized", "unsupported",   "not supported", "timed out", "timeout",   "unreachable",
    "no route", "wrong",    "bad ",         "not permitted", "unauthorized",  "forbidden", "expired",   "mismatch",
    "missing",  "stale",    "busy",         "rejected",      "not allowed",   "incorrect", "resolve",   "not known",
    "corrupt",  "too many", "no space",     "reset"};

enum class Weight { kNothing, kHint, kConsequence, kText, kWarning, kCause };

Weight weight_of(std::string_view line) noexcept {
  if (std::none_of(line.begin(), line.end(), is_letter)) return Weight::kNothing;
  if (contains_any(line, kHints)) return Weight::kHint;
  // What it follows from may stand in the same line: "mount failed: Permission denied".
  const std::size_t colon = line.rfind(": ");
  const bool names_more = colon != std::string_view::npos && contains_any(line.substr(colon), kCauses) &&
                          !contains_any(line.substr(colon), kConsequences);
  if (contains_any(line, kConsequences) && !names_more) return Weight::kConsequence;
  if (!contains_any(line, kCauses)) return Weight::kText;
  return contains_ignoring_case(line.substr(0, 40), "warning") ? Weight::kWarning : Weight::kCause;
}

}  // namespace

std::string_view relevant_line(std::string_view output) noexcept {
  std::string_view best;
  Weight most = Weight::kNothing;
  bool is_usage = false;
  while (!output.empty()) {
    const std::size_t end = std::min(output.find('\n'), output.size());
    const std::string_view line = trim(output.substr(0, end));
    output.remove_prefix(std::min(end + 1, output.size()));
    // A text of its own, with the names of options in it.
    if (contains_ignoring_case(line.substr(0, 6), "usage:")) is_usage = true;
    if (line.empty()) continue;
    const Weight weight = is_usage ? Weight::kHint : weight_of(line);
    if (weight < most) continue;
    most = weight;
    best = line;
  }
  return best;
}

}  // namespace berth
