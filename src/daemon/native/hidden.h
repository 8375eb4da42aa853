#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "fuse/session/operations.h"
#include "src/lib/base/result.h"

namespace berth::daemon {

/// What the kernel hangs on directories and files of the namespace, as far as it can be known from /proc.
struct Hidden {
  struct Watch {
    fuse::NodeId node;  ///< 0: of the whole namespace
    pid_t process;
    const char* by;  ///< "inotify", "fanotify"
  };
  /// Paths below the namespace's root, in each mount namespace that its mounts propagate to.
  std::vector<std::string> mounts;
  std::vector<Watch> watches;  ///< of inotify(7) and fanotify(7)
};

/// `host`: a process in the host's mount namespace, where the namespace is mounted at `directory`. Takes some
/// milliseconds, for all processes are looked at. Errors: ENOENT when it is not mounted; EBUSY when there is more than
/// kLongestTable to read.
Result<Hidden> find_hidden(pid_t host, const std::string& directory);

}  // namespace berth::daemon
