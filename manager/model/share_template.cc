#include "manager/model/share_template.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

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

constexpr std::array<std::string_view, 8> kVariables{"user", "uid", "gid", "group", "home", "host", "shost", "arch"};
constexpr std::array<std::string_view, 5> kOfCaller{"user", "uid", "gid", "group", "home"};

bool is_mark(std::string_view text, std::size_t at) noexcept {
  return text[at] == '&' || (text[at] == '$' && at + 1 < text.size() && text[at + 1] == '{');
}
bool is_escape(std::string_view text, std::size_t at) noexcept {
  return text[at] == '\\' && at + 1 < text.size() && (text[at + 1] == '&' || text[at + 1] == '$');
}

/// The names in "${NAME}"; one without an end is all that follows.
std::vector<std::string> variables_in(std::string_view text) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_escape(text, i)) {
      ++i;
    } else if (is_mark(text, i) && text[i] == '$') {
      names.emplace_back(text.substr(i + 2, text.find('}', i) - i - 2));
    }
  }
  return names;
}

/// The texts of a template that may hold marks.
std::vector<std::string> texts_of(const ShareSpec& pattern) {
  std::vector<std::string> texts = pattern.sources();
  for (const auto* more : {&pattern.mount_command(), &pattern.unmount_command(), &pattern.program()})
    texts.insert(texts.end(), more->begin(), more->end());
  texts.push_back(pattern.options());
  return texts;
}

std::vector<std::string> variables_in(const ShareSpec& pattern) {
  std::vector<std::string> names;
  for (const std::string& text : texts_of(pattern)) {
    for (std::string& name : variables_in(text)) names.push_back(std::move(name));
  }
  return names;
}

/// `text` with the values for its marks. Errors: EINVAL where there is none.
Result<std::string> put_values(std::string_view text, const TemplateValues& values) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_escape(text, i)) {
      result += text[++i];
    } else if (!is_mark(text, i)) {
      result += text[i];
    } else if (text[i] == '&') {
      result += values.key;
    } else {
      const std::size_t end = text.find('}', i);
      const auto value = values.variables.find(text.substr(i + 2, end - i - 2));
      if (end == std::string_view::npos || value == values.variables.end()) {
        return fail(EINVAL, "there is no value for " + quote(text.substr(i)));
      }
      result += value->second;
      i = end;
    }
  }
  return result;
}

/// The argv of a look-up program, with `key` for the key.
Result<std::vector<std::string>> put_arguments(const ShareSpec& pattern, const TemplateValues& values,
                                               std::string_view key) {
  std::vector<std::string> argv = pattern.program();
  for (std::string& argument : argv) {
    argument = argument == kKeyArgument ? std::string(key) : TRY(put_values(argument, values));
  }
  return argv;
}

/// A home directory: a path that leads nowhere else.
Result<> check_home(std::string_view home) {
  if (!home.starts_with('/')) return fail(EINVAL, quote(home) + " is not absolute");
  for (const std::string_view part : split(home.substr(1), '/')) TRY_VOID(check_key(part));
  return {};
}

/// Whether a program is given the key, which may be a shell script or put it into an answer of several words.
bool is_for_program(const ShareSpec& pattern) {
  return pattern.kind() == ShareKind::kCommand || !pattern.program().empty();
}

/// Whether the texts may be given the values that they ask for.
Result<> check_values(const ShareSpec& pattern, const TemplateValues& values) {
  const bool is_in_options = find_key_mark(pattern.options()) != std::string_view::npos;
  for (const std::string& name : variables_in(pattern)) {
    const auto value = values.variables.find(name);
    if (value == values.variables.end()) return fail(EINVAL, "there is no value for " + quote(name));
    TRY_VOID(name == "home" ? check_home(value->second) : check_key(value->second));
    if (is_for_program(pattern) || is_in_options) TRY_VOID(check_command_key(value->second));
    if (is_in_options) TRY_VOID(check_option_key(value->second));
  }
  return {};
}

}  // namespace

std::size_t find_key_mark(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_mark(text, i)) return i;
    if (is_escape(text, i)) ++i;
  }
  return std::string_view::npos;
}

Result<std::string> value_for_answer(const TemplateValues& caller, std::string_view name) {
  const auto value = caller.variables.find(name);
  const std::string shown = quote("${" + std::string(name) + "}");
  if (value == caller.variables.end()) return fail(EACCES, "the user that asks has no " + shown);
  Result<> checked = name == "home" ? check_home(value->second) : check_key(value->second);
  if (checked) checked = check_command_key(value->second);
  if (checked) checked = check_option_key(value->second);
  if (!checked) return fail(EACCES, shown + " of the user that asks: " + std::string(checked.error().story()));
  return value->second;
}

std::string option_position_fault(std::string_view options) {
  for (const std::string_view option : split(options, ',')) {
    const std::size_t mark = find_key_mark(option);
    if (mark == std::string_view::npos || option.find('=') < mark) continue;
    return "a mark in " + quote(option) +
           " would let a caller that looks up a name choose an option; put it after a '='";
  }
  return "";
}

std::string variable_fault(std::string_view text) {
  for (const std::string& name : variables_in(text)) {
    if (std::find(kVariables.begin(), kVariables.end(), name) == kVariables.end()) {
      return quote("${" + name + "}") + " is no variable; they are user, uid, gid, group, home, host, shost, arch";
    }
  }
  return "";
}

bool needs_values(const ShareSpec& pattern) {
  const std::vector<uid_t>& users = pattern.policy().allow_users;
  return !pattern.program().empty() || !variables_in(pattern).empty() ||
         std::find(users.begin(), users.end(), kKeyUser) != users.end();
}

bool is_of_caller(std::string_view text) {
  const std::vector<std::string> names = variables_in(text);
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return std::find(kOfCaller.begin(), kOfCaller.end(), name) != kOfCaller.end();
  });
}

bool is_for_caller(const ShareSpec& pattern) {
  const std::vector<std::string> texts = texts_of(pattern);
  return std::any_of(texts.begin(), texts.end(), [](const std::string& text) { return is_of_caller(text); });
}

std::string browsed_directory(const ShareFields& pattern) {
  if (!pattern.program.empty() || pattern.sources.size() != 1) return "";
  if (pattern.type != "bind" && pattern.type != "dir") return "";
  const std::string& source = pattern.sources.front();
  if (!source.ends_with("/&") || find_key_mark(source) != source.size() - 1) return "";
  return source.size() == 2 ? "/" : source.substr(0, source.size() - 2);
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

std::string program_fault(const std::vector<std::string>& argv) {
  bool is_told = false;
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string& argument = argv[i];
    const std::size_t mark = find_key_mark(argument);
    if (i == 0 && mark != std::string_view::npos) return quote(argument) + " would let a caller choose the program";
    if (mark != std::string_view::npos && argument[mark] == '&') {
      return "'&' in " + quote(argument) + " is no mark here; " + quote(kKeyArgument) +
             " is the argument that is the key";
    }
    if (argument.find(kKeyArgument) == std::string::npos) continue;
    if (i == 0) return quote(argument) + " would let a caller that looks up a name choose the program";
    if (argument != kKeyArgument) {
      return quote(argument) + ": " + quote(kKeyArgument) +
             " is an argument of its own, so that it is nothing but a name";
    }
    if (takes_script(argv[i - 1])) {
      return "the key would become a script behind " + quote(argv[i - 1]) + "; give it as an argument after the script";
    }
    is_told = true;
  }
  return is_told ? "" : "no argument is " + quote(kKeyArgument) + ", so the program cannot know what is looked up";
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

/// What separates more than options: the layers of an overlay, a name from its value.
Result<> check_option_key(std::string_view key) {
  if (key.find_first_of(":=") == std::string_view::npos) return {};
  return fail(EINVAL, quote(key) + " holds ':' or '=', and is for the options of a mount");
}

Result<> check_command_key(std::string_view key) {
  if (key.find_first_of(" \"'`$&;|<>()\\!#?[]~^%") == std::string_view::npos) return {};
  return fail(EINVAL, quote(key) + " holds a blank or a character that a shell acts on, and is for a command");
}

Result<> check_key_of(const ShareSpec& pattern, std::string_view key) {
  if (!pattern.is_template()) return fail(EINVAL, quote(pattern.name()) + " is not a template");
  TRY_VOID(check_key(key));
  const bool is_in_options = find_key_mark(pattern.options()) != std::string_view::npos;
  if (is_for_program(pattern) || is_in_options) TRY_VOID(check_command_key(key));
  if (is_in_options) TRY_VOID(check_option_key(key));
  return {};
}

Result<std::string> with_key(std::string_view text, std::string_view key) {
  return put_values(text, TemplateValues{.key = std::string(key), .variables = {}, .key_user = {}, .only_user = {}});
}

Result<ShareSpec> instantiate(const ShareSpec& pattern, std::string_view key) {
  return instantiate(pattern,
                     TemplateValues{.key = std::string(key), .variables = {}, .key_user = {}, .only_user = {}});
}

Result<std::vector<std::string>> instantiate_program(const ShareSpec& pattern, const TemplateValues& values) {
  TRY_VOID(check_key_of(pattern, values.key));
  TRY_VOID(check_values(pattern, values));
  return put_arguments(pattern, values, values.key);
}

Result<std::vector<std::string>> instantiate_listing(const ShareSpec& pattern, const TemplateValues& values) {
  TRY_VOID(check_values(pattern, values));
  return put_arguments(pattern, values, kListArgument);
}

Result<ShareSpec> instantiate(const ShareSpec& pattern, const TemplateValues& values) {
  return ShareSpec::make(TRY(instantiate_fields(pattern, values)), &pattern);
}

Result<ShareFields> instantiate_fields(const ShareSpec& pattern, const TemplateValues& values) {
  TRY_VOID(check_key_of(pattern, values.key));
  TRY_VOID(check_values(pattern, values));
  ShareFields fields = pattern.fields();
  fields.name = pattern.name().substr(0, pattern.name().size() - 1).append(values.key);
  for (std::vector<std::string>* texts :
       {&fields.sources, &fields.mount_command, &fields.unmount_command, &fields.policy.required}) {
    for (std::string& text : *texts) text = TRY(put_values(text, values));
  }
  fields.options = TRY(put_values(fields.options, values));
  std::vector<uid_t>& users = fields.policy.allow_users;
  // One that is left has the share refused.
  if (values.key_user) std::replace(users.begin(), users.end(), kKeyUser, *values.key_user);
  if (values.only_user) {
    users = {*values.only_user};
    fields.policy.allow_groups.clear();
  }
  fields.program.clear();
  fields.policy.browse = false;
  return fields;
}

}  // namespace berth::manager
