#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <optional>

#include "fuse/session/lane.h"
#include "fuse/session/parked_reply.h"
#include "fuse/tables/node_table.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_function.h"

namespace berth::fuse {

/// Requests that wait for a lock of a real file. A thread that waits in the kernel could not be called back when its
/// caller is interrupted, and each request would need one. So these try again: at once when a lock was given back
/// through berth, and every few milliseconds for locks that programs hold past berth.
///
/// As in Lane, a user can take a part of the room in a share, and root has some beyond the others'.
///
/// A share has one thread while a request waits in it, because a server that does not answer may hold it up.
///
/// Threading: any thread may call anything. The destructor answers EINTR to all requests that still wait.
class LockWaiters {
 public:
  /// Takes the lock; EAGAIN while another owner has it.
  using Try = UniqueFunction<int()>;
  /// The caller was interrupted: leaves nothing of the attempts. `taken`: gives the lock back.
  using Undo = UniqueFunction<void(bool taken)>;

  LockWaiters() = default;
  ~LockWaiters();
  LockWaiters(const LockWaiters&) = delete;
  LockWaiters& operator=(const LockWaiters&) = delete;

  /// Answers `reply` as soon as `attempt` does not return EAGAIN, or with EINTR when its caller is interrupted. ENOLCK
  /// when kMostWaiting wait in the share, or kMostWaitingOfUser of the caller's user.
  void wait(ShareIndex share, Reply reply, Try attempt, Undo undo);
  /// A lock was given back in `share`.
  void wake(ShareIndex share);

  static constexpr std::size_t kMostWaiting = Lane::kMostWaiting;
  static constexpr std::size_t kMostWaitingOfUser = Lane::kMostWaitingOfUser;

 private:
  struct Waiter {
    uid_t user;
    std::shared_ptr<ParkedReply> reply;
    Try attempt;
    Undo undo;
  };
  /// Of one share.
  struct Line {
    std::list<Waiter> arrived;
    std::size_t waiting = 0;
    std::map<uid_t, std::size_t> of_users;  ///< of those waiting
    bool served = false;                    ///< a thread does
    bool woken = false;
  };

  void serve(ShareIndex share) noexcept;
  static bool try_one(Waiter& waiter) noexcept;
  bool take_arrived(ShareIndex share, std::list<Waiter>& waiters);

  Mutex mutex_;
  ConditionVariable changed_;
  std::map<ShareIndex, Line> lines_ BERTH_GUARDED_BY(mutex_);
  std::size_t threads_ BERTH_GUARDED_BY(mutex_) = 0;
  bool stopping_ BERTH_GUARDED_BY(mutex_) = false;
  std::atomic<bool> anybody_{false};  ///< has ever waited
};

}  // namespace berth::fuse
