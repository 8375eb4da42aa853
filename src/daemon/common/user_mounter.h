#pragma once

#include <string>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// A process that stays in the user namespace and the mount namespace that an ordinary user's berth leaves
/// (become_own_root()), and mounts the berth's namespace there by fusermount3(1), so that all programs of that user see
/// it. It ends when its other end is closed.
///
/// Threading: one call at a time.
class UserMounter {
 public:
  /// Before become_own_root(), in a process with one thread. Errors: ENOENT when there is no fusermount3.
  static Result<UserMounter> start();
  /// One that an earlier keeper has started, or that another process of this berth uses.
  static UserMounter of_descriptor(int socket) noexcept { return UserMounter(UniqueFd(socket)); }

  /// Mounts a FUSE file system at `directory`, in the place of a dead one of berth's; the answer is its connection.
  /// Errors: EPERM when fusermount3 refuses, which says why on standard error.
  [[nodiscard]] Result<UniqueFd> mount(const std::string& directory) const;
  /// True: it was in use, and is detached.
  [[nodiscard]] Result<bool> unmount(const std::string& directory) const;
  /// Whether a namespace of berth's is mounted at `directory`.
  [[nodiscard]] Result<bool> is_mounted(const std::string& directory) const;

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  [[nodiscard]] int release() noexcept { return socket_.release(); }

 private:
  explicit UserMounter(UniqueFd socket) noexcept : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace berth::daemon
