#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"

namespace berth::sys {

/// One line of /proc/PID/mountinfo (proc(5)), unescaped.
struct MountEntry {
  std::uint64_t id = 0;
  std::uint64_t parent = 0;
  std::string root;          ///< of the mount within its file system
  std::string target;        ///< the mountpoint
  std::string type;          ///< "ext4", "fuse.sshfs"
  std::string source;        ///< "/dev/sda1", "host:/export"
  std::string options;       ///< per mount, as mount(8) prints them
  std::uint64_t device = 0;  ///< st_dev of its file system
  uid_t user = 0;            ///< FUSE: the user that has mounted it ("user_id", mount.fuse3(8)); 0 for all others
  bool is_shared = false;    ///< what is mounted in it is mounted in its copies in other namespaces as well
  bool is_slave = false;     ///< it follows a mount of another namespace: what is unmounted there is unmounted here
};

/// The mounts of the calling thread's mount namespace, in the kernel's order (a later one covers an earlier one at the
/// same target), or those of the mount namespace of `process`. Reads /proc/PID/mountinfo through libmount; never
/// touches a mounted file system.
Result<std::vector<MountEntry>> read_mount_table();
Result<std::vector<MountEntry>> read_mount_table(pid_t process);
/// The mounts that the text of such a file names. Errors: EINVAL, ENOMEM.
Result<std::vector<MountEntry>> parse_mount_table(const std::string& text);

/// Whether something is mounted at `target`; a few microseconds, without asking what is mounted there (openat2(2) with
/// RESOLVE_NO_XDEV does not cross). The directories above `target` are walked.
/// Errors: those of the walk; a target that does not exist is no mountpoint.
Result<bool> is_mountpoint(const std::string& target);

/// The topmost mount at exactly `target` (absolute, no symbolic links), if any that can be reached. Asks
/// is_mountpoint() first, then reads the whole table, which takes the kernel a microsecond or two for each mount.
Result<std::optional<MountEntry>> find_mount(std::string_view target);

/// Whether the kernel knows a file system of this type (/proc/filesystems). Modules not yet loaded are not seen.
bool kernel_knows_filesystem(std::string_view type);

}  // namespace berth::sys
