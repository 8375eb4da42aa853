#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"

/// Values as TOML (1.0), for files that are written.
namespace berth::config {

/// A basic string, in which nothing is hidden from a reader: characters without a width or that turn the direction of
/// writing are escaped. Errors: EINVAL for what no TOML can hold: what is not UTF-8.
Result<std::string> toml_text(std::string_view text);

/// One string, or an array of several. Errors: as above.
Result<std::string> toml_texts(const std::vector<std::string>& texts);

/// Whether a key can be written without quotes: letters, digits, '_' and '-'.
bool is_bare_key(std::string_view key) noexcept;

}  // namespace berth::config
