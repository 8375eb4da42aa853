#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "manager/model/share_spec.h"
#include "manager/model/share_template.h"
#include "src/lib/base/result.h"

namespace berth::manager {

/// What stands for the marks of a template when the user `user` looks `key` up: asks the user database and may so block
/// for long.
/// Errors: ENOENT when there is no such user; EACCES when the key is another user's.
Result<TemplateValues> values_for(const ShareSpec& pattern, std::string_view key, uid_t user);

/// What a template makes of `key` for a caller, the user `user`: asks the user database and may so block for long.
/// Errors: ENOENT when the key, or a value, is none that the template may take; EACCES when the key is another user's.
Result<ShareSpec> instantiate_for(const ShareSpec& pattern, std::string_view key, uid_t user);

/// The variables of the user `user`: its number alone where the user database has no such user, which it asks.
TemplateValues caller_values(uid_t user);

/// The variables of the host.
void add_host_values(TemplateValues& values);

/// What executable maps of autofs are told of the user `user` and of the host, as variables: AUTOFS_USER, AUTOFS_UID,
/// ... (autofs(5)). Asks the user database.
std::vector<std::string> map_environment(uid_t user);

}  // namespace berth::manager
