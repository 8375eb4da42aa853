#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "src/config/toml.h"
#include "src/lib/base/result.h"

namespace berth::config {

/// Why a text is no TOML, and in which line (from 1).
struct SyntaxFault {
  std::uint32_t line = 0;
  std::string text;
};

/// Reads a TOML document. Its nodes know their lines.
tl::expected<toml::table, SyntaxFault> parse(std::string_view text);

/// Most dots in one line: a dotted key makes a table a dot, and deep tables are destroyed by recursion.
inline constexpr std::size_t kMaxDotsInLine = 256;

}  // namespace berth::config
