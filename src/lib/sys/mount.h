#pragma once

#include <cstdint>
#include <string>

#include "src/lib/base/mount_options.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// A mount attached nowhere, made by fsopen(2), fsconfig(2), fsmount(2) (Linux 5.2). It goes away with its last
/// descriptor unless it is moved to a place.
/// `image`: the file behind the loop device `source`, which errors then name.
/// Errors: the kernel's, with its own words for the reason (read from the context) in the story.
Result<UniqueFd> make_mount(const std::string& type, const std::string& source, const MountOptions& options,
                            const std::string& image = {});

/// A detached clone of the mount at `source` (open_tree(2) with OPEN_TREE_CLONE), with the options' attributes applied.
Result<UniqueFd> make_bind(const std::string& source, const MountOptions& options);

/// A clone, attached nowhere, of the mount that `root` is the root of, with its attributes, private (open_tree(2)).
/// What is mounted below it is not in it.
Result<UniqueFd> clone_mount(int root) noexcept;

/// A clone, attached nowhere, of the mount at `path` with all that is mounted below it, with their attributes, private.
Result<UniqueFd> clone_tree(const std::string& path);

/// Attaches a detached mount at the directory that a descriptor names; nothing is looked up (move_mount(2)).
Result<> attach_mount_at(int mount, int directory) noexcept;

/// Attaches a detached mount at `target` (move_mount(2)). The descriptor stays valid and names the mount's root.
Result<> attach_mount(int mount, const std::string& target);

/// Puts a detached mount below the one that is on top at `target` now, which covers it (MOVE_MOUNT_BENEATH, Linux 6.5).
/// Errors: EINVAL before that, and where nothing is mounted.
Result<> attach_mount_beneath(int mount, const std::string& target);

/// umount2(2) with UMOUNT_NOFOLLOW added. `flags`: MNT_FORCE, MNT_DETACH, MNT_EXPIRE.
Result<> unmount(const std::string& target, int flags);

/// A loop device that shows a file as a block device and frees itself when its last user is gone (LO_FLAGS_AUTOCLEAR,
/// loop(4)).
struct LoopDevice {
  UniqueFd device;   ///< keep it open until the mount is made
  std::string path;  ///< "/dev/loop7"
};
/// Attaches `image` by LOOP_CTL_GET_FREE and LOOP_CONFIGURE (Linux 5.8); tries again when another process took the
/// device first. Where a device shows the same part of the image already, the answer is that device: two devices would
/// be two file systems that write into one image. Errors: EBUSY when that device is read-only and `read_only` is false,
/// and when a device shows another part that overlaps and one of the two may write.
Result<LoopDevice> attach_loop(const std::string& image, bool read_only, std::uint64_t offset,
                               std::uint64_t size_limit);

/// The kernel's id of the mount that `fd` is in (statx STATX_MNT_ID, Linux 5.8); asks no server.
Result<std::uint64_t> mount_id(int fd) noexcept;

}  // namespace berth::sys
