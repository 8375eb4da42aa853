#include "src/config/remedy.h"

#include "src/config/toml_text.h"
#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"

namespace berth::config {
namespace {

/// Typographic quotes, as word processors write them.
bool has_curly_quotes(std::string_view line) {
  for (const std::string_view quote : {"\u201c", "\u201d", "\u2018", "\u2019", "\u201e"}) {
    if (line.find(quote) != std::string_view::npos) return true;
  }
  return false;
}

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

std::string remedy_of_section(std::string_view line, std::string_view description) {
  if (description.find("cannot redefine") != std::string_view::npos) {
    const std::string section(line.substr(0, line.find(']') + 1));
    return prose(section) + " is there twice; write its keys into one section";
  }
  const std::size_t after = line.find_first_not_of(" \t]", line.find(']'));
  if (after != std::string_view::npos && line[after] != '#' &&
      description.find("expected a comment") != std::string_view::npos)
    return "the name of a section has a line of its own";
  if (count_quotes(line, '"') % 2 != 0) return "a quote is missing in the section's name";
  if (line.find(']') == std::string_view::npos) return "a ']' is missing at the end of the section's name";
  std::string_view name = line.substr(1, line.find(']') - 1);
  constexpr std::string_view kShare = "share.";
  if (!name.starts_with(kShare)) return "";
  name = trim(name.substr(kShare.size()));
  if (name.empty()) return "the name of the share is missing, such as [share.media]";
  if (is_bare_key(name) || name.find_first_of("\"'") != std::string_view::npos) return "";
  return "a name with other characters than letters, digits, '-' and '_' needs quotes: [share.\"" + prose(name) + "\"]";
}

bool is_number(std::string_view value) { return value.find_first_not_of("0123456789+-_.eE") == std::string_view::npos; }

/// Of a value that begins right.
std::string remedy_of_end(std::string_view value, std::string_view description) {
  if (description.find("escape sequence") != std::string_view::npos)
    return "a '\\' begins an escape in \"...\"; write it as \\\\, or the value in '...'";
  if (description.find("expected a comment") == std::string_view::npos) return "";
  return value.ends_with(',') || value.ends_with(';')
             ? "remove the '" + std::string(1, value.back()) + "' at the end of the line"
             : "what follows the value belongs into its quotes, or behind a '#'";
}

std::string remedy_of_value(std::string_view key, std::string_view value, std::string_view description) {
  const std::string name(is_bare_key(key) ? key : "NAME");
  if (value.empty()) return "the value of " + quote(name) + " is missing";
  if (description.find("leading zero") != std::string_view::npos)
    return "the value of " + quote(name) + " needs quotes: " + name + " = \"...\"";
  const char first = value.front();
  if (first == '"' || first == '\'') {
    return count_quotes(value, first) % 2 == 0 ? remedy_of_end(value, description)
                                               : "a quote is missing at the end of the value of " + quote(name);
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
  if (line.starts_with('[')) return remedy_of_section(line, description);
  if (line.starts_with('{'))
    return "this is JSON, and TOML is expected: [share.NAME], and below it lines such as type = \"nfs\"";
  if (line.starts_with("//") || line.starts_with(';') || line.starts_with("--")) return "a comment begins with '#'";
  const std::size_t equals = line.find('=');
  if (equals == std::string_view::npos) {
    const std::string_view key = line.substr(0, line.find_first_of(" \t:"));
    return is_bare_key(key) ? "write " + std::string(key) + " = \"...\"" : "";
  }
  const std::string_view key = trim(line.substr(0, equals));
  if (description.find("cannot redefine") != std::string_view::npos) {
    if (key == "source") return "\"source\" is there twice; for several write one list: source = [\"...\", \"...\"]";
    return quote(key) + " is there twice in its section";
  }
  return remedy_of_value(key, trim(line.substr(equals + 1)), description);
}

}  // namespace berth::config
