#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// Gives the calling process a mount namespace of its own in which mounts of the old one still arrive but from which
/// none get out (CLONE_NEWNS, MS_SLAVE | MS_REC). Of several threads the calling one alone. Source:
/// mount_namespaces(7). Errors: EINVAL in a chroot that is not the root of a mount.
Result<> unshare_mount_namespace();

/// The calling thread's mount namespace, to come back to.
Result<UniqueFd> current_mount_namespace() noexcept;

/// Puts the calling thread in another mount namespace for as long as it lives. The thread has its own root and working
/// directory from then on (CLONE_FS). A thread that cannot come back would work in the wrong one, so that ends the
/// process.
class MountNamespaceVisit {
 public:
  /// -1: stays where it is, and comes back all the same if the thread goes elsewhere meanwhile. Errors: setns(2)'s.
  static Result<MountNamespaceVisit> enter(int mount_namespace);
  MountNamespaceVisit(MountNamespaceVisit&&) noexcept = default;
  MountNamespaceVisit& operator=(MountNamespaceVisit&&) = delete;
  ~MountNamespaceVisit() { end(); }
  void end() noexcept;

 private:
  explicit MountNamespaceVisit(UniqueFd home) noexcept : home_(std::move(home)) {}
  UniqueFd home_;  ///< empty: moved from, or back already
};

/// Runs `work` in another mount namespace, on a thread of its own that ends with it (setns(2) requires a thread that
/// shares no file system attributes).
Result<> in_mount_namespace(int mount_namespace, const std::function<Result<>()>& work);

/// Covers `directory` with an empty tmpfs, private, mode 0700, of at most `max_inodes` inodes and `size` (tmpfs(5)): a
/// place for mountpoints that leaves nothing behind.
Result<> mount_private_tmpfs(const std::string& directory, std::uint64_t max_inodes, const std::string& size);

}  // namespace berth::sys
