#include "src/config/answer.h"

#include <cerrno>
#include <utility>

#include "src/autofs/shares.h"
#include "src/config/accounts.h"
#include "src/config/document.h"
#include "src/config/mistakes.h"
#include "src/config/section.h"
#include "src/config/share_section.h"
#include "src/lib/base/text.h"

namespace berth::config {
namespace {

constexpr const char* kBlanks = " \t\r\n";

/// The first line that says something.
std::string_view first_line(std::string_view text) {
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t start = line.find_first_not_of(kBlanks);
    if (start != std::string_view::npos && line[start] != '#') return line.substr(start);
  }
  return {};
}

/// "source = ...": no word of an entry of a map stands before a '='.
bool is_toml(std::string_view line) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  const std::size_t end = line.find_first_not_of(kLetters);
  if (end == 0 || end == std::string_view::npos) return false;
  const std::size_t next = line.find_first_not_of(kBlanks, end);
  return next != std::string_view::npos && line[next] == '=';
}

Result<manager::ShareFields> read_toml(std::string_view text, manager::ShareFields fields) {
  Mistakes mistakes;
  mistakes.begin("answer");
  const tl::expected<toml::table, SyntaxFault> table = parse(text);
  if (!table) {
    mistakes.add(table.error().line, table.error().text);
    return fail(mistakes.error());
  }
  Accounts accounts;
  Section section(*table, "the answer", 1, mistakes);
  read_share_section(section, fields, accounts);
  if (!mistakes.empty()) return fail(mistakes.error());
  if (!fields.program.empty()) return fail(EINVAL, "a program answers with a share, not with a program");
  return fields;
}

}  // namespace

Result<manager::ShareFields> read_answer(std::string_view text, const std::string& key, manager::ShareFields fields) {
  const std::string_view line = first_line(text);
  manager::ShareFields answer =
      TRY(is_toml(line) ? read_toml(text, std::move(fields)) : autofs::translate_answer(line, key, std::move(fields)));
  // What the template says of them is for its own program as well.
  if (answer.type == "dir" || answer.type == "bind") {
    answer.environment.clear();
    answer.environment_file.clear();
  }
  return answer;
}

}  // namespace berth::config
