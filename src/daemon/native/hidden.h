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
  struct Mount {
    std::string path;  ///< below the namespace's root
    bool is_hosts;     ///< in the host's mount namespace, which tells it to every user (proc(5), mountinfo)
  };
  /// In each mount namespace that the namespace's mounts propagate to.
  std::vector<Mount> mounts;
  std::vector<Watch> watches;  ///< of inotify(7) and fanotify(7)
};

/// `host`: a process in the host's mount namespace, where the namespace is mounted at `directory`. Takes some
/// milliseconds, for all processes are looked at. Errors: ENOENT when it is not mounted; EBUSY when there is more than
/// kLongestTable to read.
Result<Hidden> find_hidden(pid_t host, const std::string& directory);

}  // namespace berth::daemon
