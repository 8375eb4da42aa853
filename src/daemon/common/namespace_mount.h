#pragma once

#include <cstdint>
#include <string>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// The type that the namespace has in the mount table; its source is kNamespaceSource.
inline constexpr const char* kNamespaceType = "fuse.berth";
inline constexpr const char* kNamespaceSource = "berth";

/// Opens /dev/fuse. Errors: ENOENT, ENODEV, EACCES with what to do about it.
Result<UniqueFd> open_fuse_device();

/// Makes sure that a namespace can be mounted at `directory`: an existing, empty directory that nobody serves. A stale
/// namespace, whose berth is dead, is taken away. Never waits for longer than a few seconds, whatever is mounted there.
/// Errors: ENOENT, ENOTDIR, ENOTEMPTY, EBUSY (served already), EACCES with a story that says what to do.
/// The result is the directory's absolute path without symbolic links.
Result<std::string> prepare_namespace_directory(const std::string& directory);

/// The id of the mount that `path` below `directory` (openat(2)) is in, the topmost there; asks no file system. Where the
/// kernel can tell one that is never given out again, that one.
Result<std::uint64_t> mount_id_at(int directory, const std::string& path);

/// Mounts the namespace that `device` will serve: allow_other and default_permissions, nosuid, nodev (mount.fuse3(8)).
/// The result is the mount's id (statx(2)): one that is never used again on Linux 6.8 and later.
Result<std::uint64_t> mount_namespace(int device, const std::string& directory);

/// Takes the namespace with this mount id off `directory`, also when it is in use: then it is detached and goes with its
/// last user. True when it was in use. What else may be mounted there meanwhile is left alone.
Result<bool> unmount_namespace(const std::string& directory, std::uint64_t mount_id);

}  // namespace berth::daemon
