#pragma once

#include "manager/model/share_spec.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/identity.h"

namespace berth::fuse {

/// Whether a share's rules let `caller` do something in it, before it is mounted for that. `changes`: something that a
/// read-only file system refuses.
///
/// allow_users and allow_groups list the users that may go in; the superuser always may.
///
/// Errors: EROFS, EACCES.
Result<> check_access(const manager::SharePolicy& policy, const sys::Identity& caller, bool changes);

}  // namespace berth::fuse
