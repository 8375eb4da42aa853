#include "src/config/toml_text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"

namespace berth::config {

Result<std::string> toml_text(std::string_view text) {
  if (!is_utf8(text)) return fail(EINVAL, quote(text) + " is not valid UTF-8");
  std::string escaped;
  for (const char c : text) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return '"' +
         escape_hostile(escaped,
                        [](std::string& to, std::string_view, char32_t code) {
                          std::array<char, 16> digits{};
                          std::snprintf(digits.data(), digits.size(), code > 0xffff ? "\\U%08X" : "\\u%04X",
                                        static_cast<unsigned>(code));
                          to += digits.data();
                        }) +
         '"';
}

Result<std::string> toml_texts(const std::vector<std::string>& texts) {
  if (texts.size() == 1) return toml_text(texts.front());
  std::string result = "[";
  for (const std::string& text : texts) result.append(result.size() > 1 ? ", " : "").append(TRY(toml_text(text)));
  return result + "]";
}

bool is_bare_key(std::string_view key) noexcept {
  const auto is_bare = [](char c) { return is_alphanumeric(c) || c == '_' || c == '-'; };
  return !key.empty() && std::all_of(key.begin(), key.end(), is_bare);
}

}  // namespace berth::config
