#pragma once

#include <algorithm>
#include <string_view>

#include "src/lib/base/ascii.h"

/// Characters as automount sorts them, whatever the locale.
namespace berth::autofs {

inline bool is_blank(char c) noexcept { return c == ' ' || c == '\t'; }
inline bool is_space(char c) noexcept { return is_blank(c) || (c >= '\n' && c <= '\r'); }
/// Of the name of a variable or an option.
inline bool is_name(char c) noexcept { return is_alphanumeric(c) || c == '_'; }

/// `text` without the blanks that it starts with.
inline std::string_view skip_spaces(std::string_view text) noexcept {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\n\v\f\r"), text.size()));
  return text;
}

}  // namespace berth::autofs
