#pragma once

#include <cerrno>
#include <cstdint>

#include "fuse/tables/known_shares.h"
#include "manager/model/share.h"
#include "src/lib/sys/identity.h"
#include "src/lib/sys/other_threads.h"

namespace berth::fuse {

/// The answers of a FUSE file system whose server is dead: to later requests, and to those that it was working on.
inline bool says_disconnected(const Error& error) noexcept {
  return error.code() == ENOTCONN || error.code() == ECONNABORTED;
}

/// Makes the calling thread act as `caller`, as ShareRequest::assume_caller().
[[nodiscard]] inline Result<> assume_caller(const sys::Identity& caller) noexcept {
  if (caller.uid == static_cast<uid_t>(-1) || caller.gid == static_cast<gid_t>(-1)) return fail(EOVERFLOW);
  return sys::assume(caller);
}

/// One request inside a mounted share: which share, and which caller.
struct ShareRequest {
  KnownShare& share;
  const manager::Lease& lease;  ///< of the request, or of the open file that it is about; outlives this
  const sys::Identity caller;
  manager::Lease* own_lease = nullptr;  ///< `lease`, where it is the request's own
  const mode_t umask = 0;               ///< the caller's, where the request is to make something
  const std::uint32_t mount_generation = share.share().mount_generation();

  /// Which mount the inode numbers are of; 0 where they last.
  [[nodiscard]] std::uint32_t inode_generation() const noexcept { return share.keeps_inodes() ? 0 : mount_generation; }

  /// The number of the system call in which the caller waits for the answer, by one look as the daemon; -1: it cannot
  /// be seen, or the caller has not gone to sleep yet.
  [[nodiscard]] long system_call() const {
    const sys::AsDaemon as_daemon;
    const sys::ThreadActivity activity = sys::activity_of(caller.pid);
    return activity.is_32_bit ? -1 : activity.call;
  }

  /// Gives the request's own lease back, before the answer: the caller may want to unmount next.
  void release_lease() const noexcept {
    if (own_lease != nullptr) *own_lease = {};
  }

  /// Makes the calling thread act as the caller from here on; call it right before the real file system is touched.
  /// Errors: EOVERFLOW for a caller that has no user id here (an idmapped mount).
  [[nodiscard]] Result<> assume_caller() const noexcept { return fuse::assume_caller(caller); }
};

}  // namespace berth::fuse
