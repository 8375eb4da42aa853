#include "src/cli/parse_value.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "src/lib/base/quantity.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/names.h"

namespace berth::cli {

namespace {

/// What the user typed, quoted, and not at a length that drowns the message.
std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 64;
  return text.size() <= kMost ? quote(text) : quote(text.substr(0, kMost)) + "...";
}

}  // namespace

Result<> add_quick_share(std::string_view text, std::vector<QuickShare>& shares) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return fail(EINVAL, shown(text) + " is not NAME=DIR");
  const std::string_view name = text.substr(0, equals);
  const std::string_view directory = text.substr(equals + 1);
  if (name.empty()) return fail(EINVAL, shown(text) + " has no name before the '='");
  if (directory.empty()) return fail(EINVAL, shown(text) + " has no directory after the '='");
  TRY_VOID(check_share(name));
  if (std::any_of(shares.begin(), shares.end(), [name](const QuickShare& other) { return other.name == name; })) {
    return fail(EINVAL, shown(name) + " is given twice");
  }
  shares.push_back({std::string(name), absolute_path(std::string(directory))});
  return {};
}

Result<std::chrono::milliseconds> parse_timeout(std::string_view text) {
  const std::chrono::milliseconds timeout = TRY(parse_duration(text));
  if (timeout.count() == 0) return fail(EINVAL, "must be longer than 0");
  return timeout;
}

Result<std::string> parse_log_level(std::string_view text) {
  static const std::vector<std::string_view> kLevels{"debug", "info", "warning", "error"};
  if (std::find(kLevels.begin(), kLevels.end(), text) != kLevels.end()) return std::string(text);
  std::string_view meant = nearest(text, kLevels);
  // "warn" and "err", as others call them.
  for (const std::string_view level : kLevels) {
    if (!text.empty() && level.starts_with(text)) meant = level;
  }
  std::string story = "unknown log level " + shown(text) + "; ";
  story.append(meant.empty() ? "it is one of debug, info, warning, error" : "did you mean " + quote(meant) + "?");
  return fail(EINVAL, std::move(story));
}

std::string absolute_path(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  // This fails only if the working directory is gone; then the path as given is the best there is.
  if (error) return path;
  std::string text = whole.lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

Result<> check_share(std::string_view share) {
  if (share.empty()) return fail(EINVAL, "the name of a share cannot be empty");
  if (share.front() == '/') {
    return fail(EINVAL, shown(share) + " is a path; say the name of the share, which is its path below the namespace");
  }
  for (const std::string_view component : split(share, '/')) {
    if (!formats::is_component(component)) {
      return fail(EINVAL, shown(share) +
                              " cannot be the name of a share: its parts between '/' have 1 to 255 bytes and " +
                              "are not \".\" or \"..\"");
    }
  }
  return {};
}

Result<> check_component(std::string_view what, std::string_view name) {
  if (formats::is_component(name)) return {};
  return fail(EINVAL, shown(name) + " cannot be " + std::string(what) +
                          ": it has 1 to 255 bytes, no '/', and is not \".\" or \"..\"");
}

}  // namespace berth::cli
