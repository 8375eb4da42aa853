#include "src/lib/base/secret_forms.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"

namespace berth {
namespace {

/// A line of a longer secret, or its base64, that is shorter means nothing by itself.
constexpr std::size_t kShortest = 6;

int hex_digit(char c) noexcept {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string encode_percent(std::string_view text, std::string_view space) {
  constexpr std::string_view kBare = "-_.~";
  std::string encoded;
  for (const char c : text) {
    if (is_alphanumeric(c) || kBare.find(c) != std::string_view::npos) {
      encoded.push_back(c);
    } else if (c == ' ') {
      encoded.append(space);
    } else {
      fmt::format_to(std::back_inserter(encoded), "%{:02x}", static_cast<std::uint8_t>(c));
    }
  }
  return encoded;
}

/// RFC 4648, without what may be different at the end where more follows.
std::string encode_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string encoded;
  std::uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    bits = (bits << 8U) | static_cast<std::uint8_t>(c);
    for (count += 8; count >= 6; count -= 6) encoded.push_back(kDigits[(bits >> (count - 6)) & 63U]);
  }
  return encoded;
}

/// `text` with `to` in the place of each `from`.
std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (std::size_t at = 0;;) {
    const std::size_t next = text.find(from, at);
    result.append(text.substr(at, next - at));
    if (next == std::string_view::npos) return result;
    result.append(to);
    at = next + from.size();
  }
}

/// `value` without the escapes of an option list.
std::string unescaped(std::string_view value) {
  std::string result;
  for (std::size_t at = 0; at < value.size(); ++at) {
    const bool escapes = value[at] == '\\' || (value[at] == ',' && at + 1 < value.size() && value[at + 1] == ',');
    if (escapes && at + 1 < value.size()) ++at;
    result.push_back(value[at]);
  }
  return result;
}

/// As quote() prints it, without the quotes themselves.
std::string in_quotes(std::string_view text) {
  const std::string quoted = quote(text);
  return quoted.substr(1, quoted.size() - 2);
}

/// Each line of a text of several; JSON has "\n" for its end.
std::vector<std::string> lines_of(std::string_view secret) {
  const std::string text = replaced(secret, "\\n", "\n");
  if (text.find('\n') == std::string::npos) return {};
  std::vector<std::string> lines;
  for (std::string_view line : split(text, '\n')) {
    while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
    while (line.starts_with(' ')) line.remove_prefix(1);
    if (line.size() >= kShortest) lines.emplace_back(line);
  }
  return lines;
}

}  // namespace

Decoded decode_percent(std::string_view text) {
  Decoded decoded;
  for (std::size_t at = 0; at < text.size();) {
    decoded.origins.push_back(at);
    const bool is_code =
        text[at] == '%' && at + 2 < text.size() && hex_digit(text[at + 1]) >= 0 && hex_digit(text[at + 2]) >= 0;
    decoded.text.push_back(is_code ? static_cast<char>(hex_digit(text[at + 1]) * 16 + hex_digit(text[at + 2]))
                                   : text[at]);
    decoded.changed = decoded.changed || is_code;
    at += is_code ? 3 : 1;
  }
  decoded.origins.push_back(text.size());
  return decoded;
}

std::vector<std::string> forms_of_secret(std::string_view secret) {
  std::vector<std::string> bare{std::string(secret), unescaped(secret), decode_percent(secret).text};
  for (std::string& line : lines_of(secret)) bare.push_back(std::move(line));
  std::vector<std::string> forms;
  for (const std::string& one : bare) {
    forms.push_back(encode_percent(one, "%20"));
    forms.push_back(encode_percent(one, "+"));
    forms.push_back(in_quotes(one));
    forms.push_back(in_quotes(in_quotes(one)));
    forms.push_back(replaced(one, "'", "'\\''"));
    if (one.size() >= kShortest) forms.push_back(encode_base64(one));
  }
  forms.insert(forms.end(), std::make_move_iterator(bare.begin()), std::make_move_iterator(bare.end()));
  std::sort(forms.begin(), forms.end());
  forms.erase(std::unique(forms.begin(), forms.end()), forms.end());
  return forms;
}

}  // namespace berth
