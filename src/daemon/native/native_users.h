#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <vector>

#include "src/lib/base/clock.h"

namespace berth::daemon {

/// The processes in /proc by the users that have started them (real user ids), whatever rights they have by now.
std::map<uid_t, std::vector<pid_t>> processes_by_user();

/// What some of the processes use.
struct UsersOfMounts {
  std::vector<std::size_t> users;  ///< how many processes have something in each mount
  bool is_complete = true;         ///< all of them were looked at in time
};
/// How many of `processes` have something in each of these mounts, by their ids (mount_id_at()): a directory, an open
/// file, a mapping. A process may hold up the calling thread for as long as it likes, by its page faults.
UsersOfMounts count_users_of(const std::vector<std::uint64_t>& mounts, const std::vector<pid_t>& processes,
                             TimePoint until);

}  // namespace berth::daemon
