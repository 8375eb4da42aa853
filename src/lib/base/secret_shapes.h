#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "src/lib/base/ascii.h"

/// What secrets look like in a text.
namespace berth {

/// A part of a text, by offsets.
struct TextSpan {
  std::size_t begin;
  std::size_t end;
};
using TextSpans = std::vector<TextSpan>;

/// Where `text` has what looks like a secret (mask_secrets()), in any order; some may overlap. Percent-encoded text is
/// looked through as well.
TextSpans find_secrets(std::string_view text);

/// Whether the value of such a key is the name of a file where it begins with '/'.
bool names_a_file(std::string_view key, std::string_view value);

inline bool is_space(char c) noexcept { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
inline bool is_quote(char c) noexcept { return c == '"' || c == '\'' || c == '`'; }
/// Whether `c` can be a part of a key.
inline bool is_of_key(char c) noexcept { return is_alphanumeric(c) || c == '_' || c == '-' || c == '.'; }
inline bool all_digits(std::string_view text) noexcept { return std::all_of(text.begin(), text.end(), is_digit); }

template <std::size_t kSize>
bool contains(const std::array<std::string_view, kSize>& words, std::string_view word) noexcept {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace berth
