#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

/// Characters of ASCII, whatever the locale. Bytes above 0x7f are none of these.
namespace berth {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_alphanumeric(char c) noexcept { return is_digit(c) || is_letter(c); }

/// How many characters at the start of `text` can be printed and are of ASCII.
inline std::size_t printable_ascii_prefix(std::string_view text) noexcept {
  const auto other = std::find_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; });
  return static_cast<std::size_t>(other - text.begin());
}

constexpr char to_lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
inline std::string to_lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](char c) { return to_lower(c); });
  return result;
}

/// Whether `words`, which are in lower case, stand in `text` in any case.
inline bool contains_ignoring_case(std::string_view text, std::string_view words) noexcept {
  return std::search(text.begin(), text.end(), words.begin(), words.end(),
                     [](char a, char b) { return to_lower(a) == b; }) != text.end();
}

/// `text` without the spaces, tabs and ends of lines around it.
inline std::string_view trim(std::string_view text) noexcept {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

}  // namespace berth
