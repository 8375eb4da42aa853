#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"

/// The rules of share templates: where a key may stand, and what it may be. instantiate() of share_spec.h is made of them.
namespace berth::manager {

/// Why the '&' in a command of a template stand where a key could become a program, an option or a script; "" when they
/// do not.
std::string key_position_fault(const std::vector<std::string>& argv);

/// Whether `key` is a plain name. Errors: EINVAL, ENAMETOOLONG with a story.
Result<> check_key(std::string_view key);

/// Whether a command may be given `key` (which is a plain name): what it runs may be a shell.
/// Errors: EINVAL with a story.
Result<> check_command_key(std::string_view key);

/// `text` with `key` for each '&', and '&' for each "\&".
std::string put_key(std::string_view text, std::string_view key);

/// Where the first '&' that stands for the key is; npos when there is none.
std::size_t find_key_mark(std::string_view text) noexcept;

}  // namespace berth::manager
