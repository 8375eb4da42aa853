#pragma once

#include <sys/types.h>

#include <string_view>

#include "manager/model/share_spec.h"
#include "src/lib/base/result.h"

namespace berth::manager {

/// What a template makes of `key` for a caller, the user `user`: asks the user database and may so block for long.
/// Errors: ENOENT when the key, or a value, is none that the template may take; EACCES when the key is another user's.
Result<ShareSpec> instantiate_for(const ShareSpec& pattern, std::string_view key, uid_t user);

}  // namespace berth::manager
