#include "manager/model/share_template.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "manager/model/share_spec.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

/// What makes programs run the next argument as a script.
bool takes_script(std::string_view argument) noexcept {
  constexpr std::array<std::string_view, 5> kFlags{"-c", "-e", "--command", "--eval", "--execute"};
  return std::find(kFlags.begin(), kFlags.end(), argument) != kFlags.end();
}

/// Whether the key would be part of an option's name, or of options in one letter each. A value after '=' is fine.
bool key_in_option(std::string_view argument) noexcept {
  const std::size_t mark = find_key_mark(argument);
  return argument.starts_with('-') && mark != std::string_view::npos && argument.find('=') > mark;
}

}  // namespace

std::size_t find_key_mark(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '&') return i;
    if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '&') ++i;
  }
  return std::string_view::npos;
}

std::string put_key(std::string_view text, std::string_view key) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '&') {
      result += key;
    } else if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '&') {
      result += text[++i];
    } else {
      result += text[i];
    }
  }
  return result;
}

std::string key_position_fault(const std::vector<std::string>& argv) {
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string& argument = argv[i];
    if (find_key_mark(argument) == std::string_view::npos) continue;
    if (i == 0) return "'&' in " + quote(argument) + " would let a caller that looks up a name choose the program";
    if (key_in_option(argument)) {
      return "'&' in " + quote(argument) +
             " would let a caller that looks up a name choose an option; put it after a '=' or " +
             "into an argument of its own";
    }
    if (takes_script(argv[i - 1])) {
      return "'&' in " + quote(argument) + " would become part of a script; give it as an argument after the script";
    }
  }
  return "";
}

Result<> check_key(std::string_view key) {
  if (key.find('/') != std::string_view::npos) return fail(EINVAL, quote(key.substr(0, 255)) + " holds '/'");
  TRY_VOID(check_share_name(key));  // "..", control characters, '*', too long
  if (key.front() == '-') return fail(EINVAL, quote(key) + " starts with '-' and would be read as an option");
  if (key.find_first_of(",{}") != std::string_view::npos) {
    return fail(EINVAL, quote(key) + " holds ',', '{' or '}', which mean more than a name");
  }
  return {};
}

Result<> check_command_key(std::string_view key) {
  if (key.find_first_of(" \"'`$&;|<>()\\!#?[]~^%") == std::string_view::npos) return {};
  return fail(EINVAL, quote(key) + " holds a blank or a character that a shell acts on, and is for a command");
}

Result<ShareSpec> instantiate(const ShareSpec& pattern, std::string_view key) {
  if (!pattern.is_template()) return fail(EINVAL, quote(pattern.name()) + " is not a template");
  TRY_VOID(check_key(key));
  if (pattern.kind() == ShareKind::kCommand) TRY_VOID(check_command_key(key));

  ShareFields fields = pattern.fields();
  fields.name = pattern.name().substr(0, pattern.name().size() - 1).append(key);
  for (std::vector<std::string>* texts : {&fields.sources, &fields.mount_command, &fields.unmount_command}) {
    for (std::string& text : *texts) text = put_key(text, key);
  }
  return ShareSpec::make(std::move(fields), &pattern);
}

}  // namespace berth::manager
