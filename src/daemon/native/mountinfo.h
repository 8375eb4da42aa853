#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "src/lib/base/result.h"

namespace berth::daemon {

/// A line of /proc/PID/mountinfo (proc(5)), with what is asked of mount namespaces that are not ours.
struct MountLine {
  std::uint64_t id = 0, parent = 0;
  std::string_view device;  ///< "0:45"
  std::string root, target;
  bool follows = false;  ///< others' mounts come here
};

/// Absent: it is no such line. The device is a part of `line`.
std::optional<MountLine> parse_mount_line(std::string_view line);

/// The mount table of a process or a thread, as /proc numbers it. Errors: EBUSY when it has more than 4 MiB; ENOENT,
/// ESRCH when the process is gone.
Result<std::string> read_mountinfo(pid_t process);

/// The device of what is mounted at `directory`, in the mount namespace of `process`: "0:45". Errors: ENOENT when
/// nothing is; as read_mountinfo().
Result<std::string> device_at(pid_t process, const std::string& directory);

}  // namespace berth::daemon
