#include "src/config/answer.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "manager/model/share_template.h"
#include "src/autofs/shares.h"
#include "src/config/accounts.h"
#include "src/config/document.h"
#include "src/config/mistakes.h"
#include "src/config/section.h"
#include "src/config/share_section.h"
#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"

namespace berth::config {
namespace {

constexpr const char* kBlanks = " \t\r\n";

/// An entry of a map: the first line that says something, and those that a backslash at the end of the one before adds.
std::string entry_of(std::string_view text) {
  std::string entry;
  bool goes_on = false;
  for (std::string_view line : split(text, '\n')) {
    const std::size_t start = line.find_first_not_of(kBlanks);
    if (!goes_on && (start == std::string_view::npos || line[start] == '#')) continue;
    if (line.ends_with('\r')) line.remove_suffix(1);
    goes_on = line.ends_with('\\');
    if (goes_on) line.remove_suffix(1);
    entry.append(entry.empty() ? "" : " ").append(line.substr(std::min(start, line.size())));
    if (!goes_on) break;
  }
  return entry;
}

/// "source = ...": no word of an entry of a map stands before a '='.
bool is_toml(std::string_view entry) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  const std::size_t end = entry.find_first_not_of(kLetters);
  if (end == 0 || end == std::string_view::npos) return false;
  const std::size_t next = entry.find_first_not_of(kBlanks, end);
  return next != std::string_view::npos && entry[next] == '=';
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

Result<manager::LookUpAnswer> read_answer(std::string_view text, const std::string& key, manager::ShareFields fields,
                                          const manager::FindCaller& find_caller) {
  const std::string entry = entry_of(text);
  manager::LookUpAnswer answer;
  if (fields.type != manager::kHostsType && is_toml(entry)) {
    answer.shares.push_back(TRY(read_toml(text, std::move(fields))));
  } else {
    Result<std::vector<autofs::Share>> shares = fields.type == manager::kHostsType
                                                    ? autofs::translate_exports(text, key, fields)
                                                    : autofs::translate_answer(entry, key, fields, find_caller);
    if (!shares && shares.error().code() == EACCES)
      return manager::LookUpAnswer{.shares = {}, .refused = std::string(shares.error().story())};
    for (autofs::Share& share : TRY(std::move(shares))) {
      for (std::string& note : share.notes)
        answer.notes.push_back(quote(share.fields.name) + ": " + mask_secrets(note));
      answer.shares.push_back(std::move(share.fields));
    }
  }
  for (manager::ShareFields& share : answer.shares) {
    // What the template says of them is for its own program as well.
    if (share.type != "dir" && share.type != "bind") continue;
    share.environment.clear();
    share.environment_file.clear();
  }
  return answer;
}

}  // namespace berth::config
