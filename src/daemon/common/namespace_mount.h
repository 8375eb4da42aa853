#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "src/daemon/common/user_mounter.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// The type that the namespace has in the mount table; its source is kNamespaceSource.
inline constexpr const char* kNamespaceType = "fuse.berth";
inline constexpr const char* kNamespaceSource = "berth";
/// Where the namespace usually is: made at the start where it is missing. Any other directory must exist, because its
/// name may be a typing error.
inline constexpr const char* kUsualNamespace = "/volumes";

/// STATX_MNT_ID_UNIQUE (Linux 6.8), newer than Debian 12's headers: a mount id that is never given out again. The old
/// kind (STATX_MNT_ID) is, so soon that the next mount may well have it.
inline constexpr unsigned kStatxMountIdUnique = 0x4000U;

/// Opens /dev/fuse. Errors: ENOENT, ENODEV, EACCES with what to do about it.
Result<UniqueFd> open_fuse_device();

/// Makes sure that a namespace can be mounted at `directory`: an existing, empty directory that no berth serves. A
/// namespace whose berth is dead stays until mount_namespace(). Never waits for longer than a few seconds, whatever is
/// mounted there. Errors: ENOENT, ENOTDIR, ENOTEMPTY, EBUSY (served already), EACCES with a story that says what to do.
/// The result is the directory's absolute path without symbolic links.
Result<std::string> prepare_namespace_directory(const std::string& directory);

/// The id of the mount that `path` below `directory` (openat(2)) is in, the topmost there; asks no file system. Where
/// the kernel reports a mount id that is never used again, that id.
Result<std::uint64_t> mount_id_at(int directory, const std::string& path);

/// Which mount the namespace is.
struct NamespaceMount {
  std::uint64_t id = 0;        ///< of statx(2); one that is never used again on Linux 6.8 and later
  std::uint64_t table_id = 0;  ///< in mountinfo; may be another mount's once this one is gone
  /// Of an ordinary user's berth whose namespace is mounted on the host, out of the keeper's sight: the ids are 0 then.
  /// Else null.
  std::shared_ptr<const UserMounter> mounter;
};

/// Mounts the namespace that `device` will serve: allow_other and default_permissions, nosuid, nodev (mount.fuse3(8)).
/// Where a dead namespace is mounted it takes its place, without a moment in which the directory below is seen (on
/// Linux before 6.5: with a very short one).
Result<NamespaceMount> mount_namespace(int device, const std::string& directory);

/// Whether the namespace is mounted still, be it covered or moved. Errors: those of reading the mount table.
Result<bool> is_namespace_mounted(const NamespaceMount& mount, const std::string& directory);

/// Ends the connection of the namespace, and leaves it mounted: callers that wait for an answer get an error, and so do
/// those that come. Nothing is done where another mount is on top.
void abort_namespace(const NamespaceMount& mount);

/// Unmounts the namespace where it is now, also when it is in use: then it is detached and goes with its last user.
/// True when it was in use. What else may be mounted there meanwhile is left alone. `directory`: where it was mounted.
Result<bool> unmount_namespace(const NamespaceMount& mount, const std::string& directory);

}  // namespace berth::daemon
