#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"

/// How a program of an ordinary user mounts: in a user namespace that it has made, where it is root, and in a mount
/// namespace of that (user_namespaces(7), mount_namespaces(7)). Other processes do not see such mounts unless they
/// enter both.
namespace berth::sys {

/// Puts the calling process, which must have one thread, in a user namespace of its own, where its user and its group
/// are 0 and there is no other, and in a mount namespace in which mounts of the old one still arrive.
/// Errors: EPERM, ENOSPC, with a story, where the system allows no user namespaces.
Result<> become_own_root();

/// Whether the calling process is in the user namespace of the host (user_namespaces(7), "initial user namespace").
[[nodiscard]] bool is_in_initial_user_namespace();

/// Whether the calling process is in such a user namespace: one that has a single user.
[[nodiscard]] bool is_own_root();

/// What user 0 and group 0 of the calling process's user namespace are outside of it.
[[nodiscard]] uid_t outer_user();
[[nodiscard]] gid_t outer_group();

/// Something that is mounted in a mount namespace of a user namespace that the calling user has made.
struct OwnMount {
  pid_t process;       ///< one that is in that mount namespace
  std::string target;  ///< where
};
/// All file systems of `type` that are mounted so and are not seen by the calling process; each once, however many
/// mount namespaces it is seen in.
[[nodiscard]] std::vector<OwnMount> find_own_mounts(std::string_view type);

/// Puts the calling process, which must have one thread, in the mount namespace of `process` and in the user namespace
/// that owns that. It is root there. Its working directory is found again by its path, else it is "/". Errors:
/// setns(2)'s; ESRCH.
Result<> enter_namespaces_of(pid_t process);

/// After enter_namespaces_of(): shows the calling process, and what it executes, the ids that it had before, in one
/// more user namespace.
Result<> show_ids(uid_t user, gid_t group);

}  // namespace berth::sys
