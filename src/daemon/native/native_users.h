#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "manager/model/mount_users.h"
#include "src/lib/base/clock.h"

namespace berth::daemon {

/// The time that the calling thread has run on a processor.
Duration processor_time();

/// The processes in /proc by the users that have started them (real user ids), whatever rights they have by now.
std::map<uid_t, std::vector<pid_t>> processes_by_user();

using manager::UseOfMount;

/// How much is noted of what processes have in mounts; all processes are counted.
struct UsesWanted {
  std::size_t most = 0;           ///< uses
  std::size_t most_of_names = 0;  ///< bytes of all paths
};

/// What some of the processes use.
struct UsersOfMounts {
  using In = manager::UsersOfMount;
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
