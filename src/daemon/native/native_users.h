#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "src/lib/base/clock.h"

namespace berth::daemon {

/// The time that the calling thread has run on a processor.
Duration processor_time();

/// The processes in /proc by the users that have started them (real user ids), whatever rights they have by now.
std::map<uid_t, std::vector<pid_t>> processes_by_user();

/// Something that a process has in a mount.
struct UseOfMount {
  enum class Kind : std::uint8_t { kFile, kDirectory, kMapping };
  pid_t pid = 0;
  uid_t uid = 0;        ///< the user that has started it
  std::string command;  ///< the process's name (proc(5), comm)
  Kind kind = Kind::kFile;
  std::string path;  ///< as the kernel shows it in the host's mount namespace, or below the mount's root
  bool is_users_own =
      false;  ///< the kernel shows this user the path as well: the process has no rights beyond the user's
};

/// How much is noted of what processes have in mounts; all processes are counted.
struct UsesWanted {
  std::size_t most = 0;           ///< uses
  std::size_t most_of_names = 0;  ///< bytes of all paths
};

/// What some of the processes use.
struct UsersOfMounts {
  struct In {
    std::size_t processes = 0;  ///< that have something in the mount
    std::vector<UseOfMount> uses;
    std::size_t left_out = 0;  ///< uses that are not among them
  };
  std::vector<In> in;       ///< by mount
  bool is_complete = true;  ///< all processes were looked at in time
  Duration cost{};          ///< of a processor's time
};
/// Which of `processes`, all of `user`, have something in each of these mounts, by their ids (mount_id_at()): a
/// directory, an open file, a mapping. A process may hold up the calling thread for as long as it likes, by its page
/// faults.
UsersOfMounts find_users_of(const std::vector<std::uint64_t>& mounts, uid_t user, const std::vector<pid_t>& processes,
                            TimePoint until, UsesWanted wanted = {});

}  // namespace berth::daemon
