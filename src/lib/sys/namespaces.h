#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// Gives the calling process a mount namespace of its own in which mounts of the old one still arrive but from which
/// none get out (CLONE_NEWNS, MS_SLAVE | MS_REC). Call it while there is one thread. Source: mount_namespaces(7).
/// Errors: EINVAL in a chroot that is not the root of a mount.
Result<> unshare_mount_namespace();

/// The calling thread's mount namespace, to come back to.
Result<UniqueFd> current_mount_namespace() noexcept;

/// Runs `work` in another mount namespace, on a thread of its own that ends with it (setns(2) wants a thread that shares
/// no file system attributes).
Result<> in_mount_namespace(int mount_namespace, const std::function<Result<>()>& work);

/// Covers `directory` with an empty tmpfs, private, mode 0700, of at most `max_inodes` inodes and `size` (tmpfs(5)): a place
/// for mountpoints that leaves nothing behind.
Result<> mount_private_tmpfs(const std::string& directory, std::uint64_t max_inodes, const std::string& size);

}  // namespace berth::sys
