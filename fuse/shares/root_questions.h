#pragma once

#include <sys/stat.h>

#include <optional>

#include "src/lib/sys/identity.h"

/// Why the kernel asks for the attributes of a share's root while the share is not mounted.
///
/// By them it decides whether the caller may go in, make a file there, and so on. It asks when its cached ones have
/// expired, and once more when these refuse the caller (fuse_permission(), fs/fuse/dir.c). It asks in the same way for
/// stat(2). Only the caller's system call shows which of these it is.
namespace berth::fuse {

/// The permissions of the root (R_OK, W_OK, X_OK) that the caller's system call may need; more where the call shows too
/// little. 0: it looks at the attributes alone. `is_believed`: the kernel has valid cached attributes, and so was
/// refused by them. Reads /proc as the daemon.
int permissions_wanted(const sys::Identity& caller, bool is_believed);

/// Whether a directory with these attributes grants the caller all of `permissions`. `has_list`: it has an access list,
/// which is not looked at; what depends on it is not granted.
bool grants(const struct stat& root, bool has_list, const sys::Identity& caller, int permissions);

}  // namespace berth::fuse
