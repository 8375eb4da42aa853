#include "src/config/remedy.h"

#include <algorithm>

#include "src/lib/base/text.h"

namespace berth::config {
namespace {

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

bool is_bare(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

/// Typographic quotes, as word processors write them.
bool has_curly_quotes(std::string_view line) {
  for (const std::string_view quote : {"\u201c", "\u201d", "\u2018", "\u2019", "\u201e"}) {
    if (line.find(quote) != std::string_view::npos) return true;
  }
  return false;
}

std::string remedy_of_section(std::string_view line) {
  if (line.find(']') == std::string_view::npos) return "a ']' is missing at the end of the section's name";
  std::string_view name = line.substr(1, line.find(']') - 1);
  constexpr std::string_view kShare = "share.";
  if (!name.starts_with(kShare)) return "";
  name = trim(name.substr(kShare.size()));
  if (name.empty()) return "the name of the share is missing, such as [share.media]";
  if (is_bare(name) || name.find_first_of("\"'") != std::string_view::npos) return "";
  return "a name with other characters than letters, digits, '-' and '_' needs quotes: [share.\"" + prose(name) + "\"]";
}

bool is_number(std::string_view value) { return value.find_first_not_of("0123456789+-_.eE") == std::string_view::npos; }

/// Quotes that no backslash is before.
std::size_t count_quotes(std::string_view value, char quote) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < value.size(); ++at) {
    if (value[at] == '\\' && quote == '"') {
      ++at;
    } else if (value[at] == quote) {
      ++count;
    }
  }
  return count;
}

std::string remedy_of_value(std::string_view key, std::string_view value) {
  const std::string name(is_bare(key) ? key : "KEY");
  if (value.empty()) return "the value of " + quote(name) + " is missing";
  const char first = value.front();
  if (first == '"' || first == '\'') {
    return count_quotes(value, first) % 2 == 0 ? "" : "a quote is missing at the end of the value of " + quote(name);
  }
  if (first == '[') return value.find(']') == std::string_view::npos ? "a ']' is missing at the end of the list" : "";
  if (first == '{' || is_number(value)) return "";
  const std::string_view word = value.substr(0, value.find_first_of(" \t#"));
  if (word == "true" || word == "false") return "";
  if (word == "True" || word == "False" || word == "TRUE" || word == "FALSE" || word == "yes" || word == "no")
    return "write true or false";
  return "the value of " + quote(name) + " needs quotes: " + name + " = \"...\"";
}

}  // namespace

std::string remedy_of(std::string_view line, std::string_view description) {
  line = trim(line);
  if (has_curly_quotes(line)) return "use straight quotes (\") in the place of typographic ones";
  if (line.starts_with('[')) return remedy_of_section(line);
  const std::size_t equals = line.find('=');
  if (equals == std::string_view::npos) {
    const std::string_view key = line.substr(0, line.find_first_of(" \t:"));
    return is_bare(key) ? "write " + std::string(key) + " = \"...\"" : "";
  }
  const std::string_view key = trim(line.substr(0, equals));
  if (description.find("cannot redefine") != std::string_view::npos) {
    if (key == "source") return "\"source\" is there twice; for several write one list: source = [\"...\", \"...\"]";
    return quote(key) + " is there twice in its section";
  }
  return remedy_of_value(key, trim(line.substr(equals + 1)));
}

}  // namespace berth::config
