#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"

/// The rules of share templates: where a key may stand, and what it may be. instantiate() of share_spec.h is made of
/// them.
namespace berth::manager {

class ShareSpec;
struct ShareFields;

/// In SharePolicy::allow_users of a template: the user that the key names. No user has this number (chown(2)).
inline constexpr uid_t kKeyUser = static_cast<uid_t>(-1);

/// What stands for the marks in a template.
struct TemplateValues {
  std::string key;                                            ///< for '&'
  std::map<std::string, std::string, std::less<>> variables;  ///< for "${NAME}", by the name
  std::optional<uid_t> key_user;                              ///< for kKeyUser
  std::optional<uid_t> only_user;  ///< no other user may go in; nothing: as the template says
};

/// Asks the user database for the variables of the user that asks, and so may block for long. `only_user` is that user.
using FindCaller = std::function<TemplateValues()>;
/// The value of one of them (`name`: "uid") for a mount that a program has printed: its options and its source.
/// Errors: EACCES with a story: the user has none, or one that could be taken for more than it is.
Result<std::string> value_for_answer(const TemplateValues& caller, std::string_view name);

/// The share that a template becomes. A value that could be taken for more than it is has it refused, as a key has:
/// each is one part of a path, and `home` an absolute path. Errors: EINVAL, ENAMETOOLONG with a story.
Result<ShareSpec> instantiate(const ShareSpec& pattern, const TemplateValues& values);

/// The fields of that share, not yet checked: those of a template with a program are for its answer to add to.
/// Errors: as instantiate().
Result<ShareFields> instantiate_fields(const ShareSpec& pattern, const TemplateValues& values);
/// What is run for a key: the program of a template with the values in their places. Errors: as instantiate().
Result<std::vector<std::string>> instantiate_program(const ShareSpec& pattern, const TemplateValues& values);

/// Whether instantiate() needs more than a key.
bool needs_values(const ShareSpec& pattern);
/// Whether the share is of one caller: it has the caller's user, uid, gid, group or home in it.
bool is_for_caller(const ShareSpec& pattern);

/// Whether `key` can be one of the template. Errors: EINVAL, ENAMETOOLONG with a story.
Result<> check_key_of(const ShareSpec& pattern, std::string_view key);

/// Why the marks in the options of a mount stand where a key could become an option; "" when they do not.
std::string option_position_fault(std::string_view options);
/// What is wrong with a "${NAME}" in a text of a template; "": nothing.
std::string variable_fault(std::string_view text);

/// Why the '&' in a command of a template stand where a key could become a program, an option or a script; "" when they
/// do not.
std::string key_position_fault(const std::vector<std::string>& argv);

/// The type of a template whose program is an executable map of autofs.
inline constexpr std::string_view kMapType = "autofs";
/// The type of a template whose program lists the exports of a host, as showmount(8) does (-hosts of autofs).
inline constexpr std::string_view kHostsType = "autofs-hosts";
/// In the argv of a look-up program: the key, as an argument of its own.
inline constexpr std::string_view kKeyArgument = "{key}";
/// What a look-up program gets in its place when it is to list its keys. No key starts with '-'.
inline constexpr std::string_view kListArgument = "--list";
/// The directory whose names are the keys of a template: "/srv/home" of a bind of "/srv/home/&". "": there is none.
std::string browsed_directory(const ShareFields& pattern);
/// Whether a text of a template has a variable of the caller.
bool is_of_caller(std::string_view text);
/// As instantiate_program(), for the list of keys.
Result<std::vector<std::string>> instantiate_listing(const ShareSpec& pattern, const TemplateValues& values);
/// What is wrong with the argv of a look-up program; "": nothing.
std::string program_fault(const std::vector<std::string>& argv);

/// `text` of a template with the key for its '&'. Errors: EINVAL.
Result<std::string> with_key(std::string_view text, std::string_view key);

/// Whether `key` is a plain name. Errors: EINVAL, ENAMETOOLONG with a story.
Result<> check_key(std::string_view key);

/// Whether the options of a mount may be given `key`, as check_command_key(). Errors: EINVAL with a story.
Result<> check_option_key(std::string_view key);

/// Whether a command may be given `key` (which is a plain name): what it runs may be a shell.
/// Errors: EINVAL with a story.
Result<> check_command_key(std::string_view key);

/// Where the first mark is, '&' or "${"; npos when there is none. "\&" and "\$" stand for themselves.
std::size_t find_key_mark(std::string_view text) noexcept;

}  // namespace berth::manager
