#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "fuse/session/this_request.h"
#include "fuse/shares/lock_requests.h"
#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"
#include "src/lib/sys/identity.h"
#include "src/lib/sys/other_threads.h"

// The operations of ShareFs on locks. A lock of flock(2) is that of a handle's descriptor, one of fcntl(2) is in
// LockTable.
namespace berth::fuse {
namespace {

int code_of(const Result<>& result) noexcept { return result ? 0 : result.error().code(); }

int lock_file(const Handle& handle, int operation) noexcept {
  if (::flock(handle.fd(), operation | LOCK_NB) == 0) return 0;
  return errno == EWOULDBLOCK ? EAGAIN : errno;
}

/// The kernel does not wait until the server has closed what its callers have closed. So the next caller may conflict
/// with a lock that is over for them, and a caller that will not wait is refused only after a moment.
template <typename Attempt>
int attempt_surely(bool waits, const Attempt& attempt) {
  const int tries = waits ? 0 : 3;
  constexpr std::chrono::microseconds kPause{300};
  int code = attempt();
  for (int i = 0; i < tries && code == EAGAIN; ++i) {
    std::this_thread::sleep_for(kPause);
    code = attempt();
  }
  return code;
}

/// Whether a caller that has asked for a lock waits in F_SETLKW. For locks of open files, F_OFD_SETLKW, no deadlocks
/// are looked for (fcntl(2)), and the request does not show which it is. A caller that has not gone to sleep yet is
/// taken to wait in F_SETLKW: if it does not, it gets EDEADLK for a circle that would never have ended.
bool asks_for_process(pid_t caller) {
  const sys::AsDaemon as_daemon;
  const sys::ThreadActivity activity = sys::activity_of(caller);
  if (activity.kind == sys::ThreadActivity::Kind::kRunning) return true;
  return activity.call != -1 && activity.arguments[1] != F_OFD_SETLKW;
}

/// Towards file systems the thread acts as the caller: a server may know no other user of a file. What gives a lock
/// back must not fail for that.
int act_as(const sys::Identity& caller, bool locks) noexcept {
  const Result<> acts = assume_caller(caller);
  return locks ? code_of(acts) : 0;
}

/// A request for a record lock.
class RecordLock {
 public:
  /// The open file by which the owner asks.
  struct Asker {
    std::shared_ptr<Handle> open;
    std::uint64_t number;
    LockOwner owner;
    sys::Identity caller;
  };
  RecordLock(LockTable& locks, const HandleTable& handles, LockRequests& all, Asker asker, const struct flock& range)
      : locks_(locks),
        handles_(handles),
        asker_(std::move(asker)),
        asked_{*asker_.open, asker_.number, asker_.owner, range},
        request_(all, asker_.open->node, asker_.owner, range) {}

  /// Notes what the owner has locked there, for end(), unless no lock has changed since.
  void note_before() {
    if (asked_.range.l_type == F_UNLCK) return;
    const std::uint64_t now = locks_.changes();
    if (std::exchange(noted_, now) != now) before_ = locks_.held(asked_);
  }
  int set() {
    if (request_.must_wait()) return EAGAIN;
    const bool is_lock = asked_.range.l_type != F_UNLCK;
    if (const int refused = act_as(asker_.caller, is_lock); refused != 0) return refused;
    const int code = code_of(locks_.set(asked_));
    if (code == 0) request_.note_set();
    return code;
  }
  /// The same of a caller that waits: EDEADLK where it would wait in a circle. That is looked for when locks have
  /// changed.
  int set_or_wait() {
    const int code = set();
    if (code != EAGAIN) return code;
    if (!waits_) waits_ = std::make_unique<LockTable::Wait>(locks_, asked_);
    const std::uint64_t now = locks_.changes();
    if (std::exchange(looked_, now) == now) return code;
    if (!locks_.is_in_circle(*waits_) || !asks_for_process(asker_.caller.pid)) return code;
    waits_.reset();  // at once, so that no other one in the circle is answered so
    return EDEADLK;
  }
  /// After the last set(). `is_late`: it has locked, and the caller was told of an interrupt: the owner's locks are as
  /// before.
  void end(bool is_late) {
    if (is_late && asked_.range.l_type != F_UNLCK) take_back();
    // Closed meanwhile: nothing else would end what was left.
    const NodeId node = asker_.open->node;
    if (handles_.find(asker_.number, node) == nullptr) locks_.drop_handle(node, asker_.number);
  }

 private:
  void take_back() {
    const LockRequests::Later later = request_.begin_undo();
    if (later == LockRequests::Later::kLock) return;
    locks_.put_back(asked_, later == LockRequests::Later::kNothing ? before_ : LockTable::Held());
  }

  LockTable& locks_;
  const HandleTable& handles_;
  const Asker asker_;
  const LockTable::Request asked_;
  LockRequests::Request request_;
  std::optional<std::uint64_t> noted_;
  LockTable::Held before_;
  std::unique_ptr<LockTable::Wait> waits_;
  std::optional<std::uint64_t> looked_;  ///< LockTable::changes() at the last look for a circle
};

}  // namespace

void ShareFs::getlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range) {
  core_->with_handle(std::move(reply), node, handle.fh, [&](const ShareRequest& request, const Handle& open, Reply to) {
    if (const Result<> acts = request.assume_caller(); !acts) return std::move(to).error(acts.error());
    const Result<struct flock> found = core_->locks.find({open, handle.fh, handle.lock_owner, range});
    if (!found) return core_->reply_error(request, std::move(to), found.error());
    std::move(to).lock(*found);
  });
}

void ShareFs::setlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range, bool wait) {
  const std::shared_ptr<Handle> open = core_->handles.find(handle.fh, node);
  if (open == nullptr) return std::move(reply).error(EBADF);
  const auto lock =
      std::make_shared<RecordLock>(core_->locks, core_->handles, core_->record_locks,
                                   RecordLock::Asker{open, handle.fh, handle.lock_owner, reply.caller()}, range);
  // An unlock is not refused: it waits for an earlier request that is being undone.
  wait |= range.l_type == F_UNLCK;
  // A local file system keeps no thread until its caller is told of an interrupt.
  if (!core_->shares.find(open->share)->is_local()) lock->note_before();
  const int code = attempt_surely(wait, [&] { return wait ? lock->set_or_wait() : lock->set(); });
  if (code == 0 && range.l_type != F_WRLCK) core_->waiters.wake(open->share);  // a read lock may replace one to write
  core_->finish_lock(
      std::move(reply), open->share, code, wait,
      [lock] {
        lock->note_before();
        return lock->set_or_wait();
      },
      [lock](bool taken) { lock->end(taken); });
}

/// `undo(taken)`: the caller has its answer already, or is told of an interrupt.
void ShareFs::Core::finish_lock(Reply reply, ShareIndex share, int code, bool wait, LockWaiters::Try attempt,
                                LockWaiters::Undo undo) {
  if (!this_request::hand_on()) {
    undo(code == 0);
    waiters.wake(share);
    return std::move(reply).error(EINTR);
  }
  if (code != EAGAIN || !wait) return std::move(reply).error(code);
  waiters.wait(share, std::move(reply), std::move(attempt), std::move(undo));
}

void ShareFs::flock(Reply reply, NodeId node, const fuse_file_info& handle, int operation) {
  const std::shared_ptr<Handle> open = core_->handles.find(handle.fh, node);
  if (open == nullptr) return std::move(reply).error(EBADF);
  const bool wait = (operation & LOCK_NB) == 0;
  const bool is_lock = (operation & LOCK_UN) == 0;
  struct flock whole {};
  whole.l_type = is_lock ? F_WRLCK : F_UNLCK;
  const auto request = std::make_shared<LockRequests::Request>(core_->file_locks, node, handle.fh, whole);
  const auto set = [open, operation, is_lock, request, caller = reply.caller()] {
    if (request->must_wait()) return EAGAIN;
    if (const int refused = act_as(caller, is_lock); refused != 0) return refused;
    const int code = lock_file(*open, operation);
    if (code == 0) request->note_set();
    return code;
  };
  const auto end = [core = core_.get(), open, is_lock, request, node, number = handle.fh](bool is_late) {
    const bool undo = is_late && is_lock && request->begin_undo() != LockRequests::Later::kLock;
    if (undo || core->handles.find(number, node) == nullptr) lock_file(*open, LOCK_UN);
  };
  const int code = attempt_surely(wait, set);
  if (code == 0 && (operation & LOCK_EX) == 0) core_->waiters.wake(open->share);
  core_->finish_lock(std::move(reply), open->share, code, wait, set, end);
}

}  // namespace berth::fuse
