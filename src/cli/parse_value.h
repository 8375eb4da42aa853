#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "src/cli/options.h"
#include "src/lib/base/result.h"

namespace berth::cli {

/// Adds NAME=DIR to `shares`; DIR is made absolute, and exists or not. Errors: EINVAL with a story.
Result<> add_quick_share(std::string_view text, std::vector<QuickShare>& shares);

/// "debug", "info", "warning", "error". Errors: EINVAL with a story.
Result<std::string> parse_log_level(std::string_view text);

/// "30s", "5m", "1h30m", "250ms": longer than 0. Errors: EINVAL with a story.
Result<std::chrono::milliseconds> parse_timeout(std::string_view text);

/// `path` from the root, "." and ".." and trailing slashes resolved by the text alone.
std::string absolute_path(const std::string& path);

/// Whether `share` can be the path of a share: components of 1 to 255 bytes that are not "." or "..".
/// Errors: EINVAL with a story.
Result<> check_share(std::string_view share);

/// Whether `name` can be an instance or a volume (`what`). Errors: EINVAL with a story.
Result<> check_component(std::string_view what, std::string_view name);

}  // namespace berth::cli
