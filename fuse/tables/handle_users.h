#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "src/lib/base/clock.h"

namespace berth::fuse {

/// A process that holds a share.
struct HandleUser {
  pid_t pid = 0;  ///< the thread that opened it; 0: not visible from here
  uid_t uid = 0;
  bool directory = false;  ///< an open directory, not a file
  bool waits = false;      ///< it has a request that is not answered yet, and perhaps nothing open
  /// Path below the share's root, as last known, "" for the root itself; nothing: it is not shown.
  std::optional<std::string> what;
};

struct HandleUsers {
  std::vector<HandleUser> users;
  std::size_t more = 0;  ///< that are not among them
};

/// How much is to be shown of the users of a share.
struct UsersWanted {
  std::size_t most = 0;                       ///< users
  std::size_t most_of_one = 0;                ///< of one uid, so that none hides the others
  std::size_t longest_name = 0;               ///< bytes; of a longer path the end
  std::size_t most_of_names = 0;              ///< bytes of all paths; one that does not fit is not shown
  std::function<bool(uid_t)> names_are_told;  ///< whether the names of what this user has open are
};

/// Callers that wait for an answer of a share.
struct Unanswered {
  std::size_t callers = 0;
  const char* operation = "";  ///< name_of_opcode() of the one that has waited for longest
  TimePoint since{};           ///< of that
};

}  // namespace berth::fuse
