#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace berth::manager {

/// Something that a process has in a mount.
struct UseOfMount {
  enum class Kind : std::uint8_t { kFile, kDirectory, kMapping };
  pid_t pid = 0;
  uid_t uid = 0;        ///< the user that has started it
  std::string command;  ///< the process's name (proc(5), comm)
  Kind kind = Kind::kFile;
  std::string path;  ///< as the kernel shows it in the host's mount namespace, or below the mount's root
  /// The kernel shows this user the path as well: the process has no rights beyond the user's.
  bool is_users_own = false;
};

/// What processes have in one mount.
struct UsersOfMount {
  std::size_t processes = 0;  ///< that have something in it
  std::vector<UseOfMount> uses;
  std::size_t left_out = 0;  ///< uses that are not among them
};

}  // namespace berth::manager
