#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

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

}  // namespace

void ShareFs::getlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range) {
  core_->with_handle(std::move(reply), node, handle.fh, [&](const ShareRequest& request, const Handle& open, Reply to) {
    const Result<struct flock> found = core_->locks.find({open, handle.fh, handle.lock_owner, range});
    if (!found) return core_->reply_error(request, std::move(to), found.error());
    std::move(to).lock(*found);
  });
}

void ShareFs::setlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range, bool wait) {
  const std::shared_ptr<Handle> open = core_->handles.find(handle.fh, node);
  if (open == nullptr) return std::move(reply).error(EBADF);
  const auto set = [core = core_.get(), open, number = handle.fh, owner = handle.lock_owner](struct flock to) {
    return code_of(core->locks.set({*open, number, owner, to}));
  };
  const int code = attempt_surely(wait, [&] { return set(range); });
  if (code == 0 && range.l_type != F_WRLCK) core_->waiters.wake(open->share);  // a read lock may replace one to write
  if (code != EAGAIN || !wait) return std::move(reply).error(code);
  auto waits =
      std::make_unique<LockTable::Wait>(core_->locks, LockTable::Request{*open, handle.fh, handle.lock_owner, range});
  std::uint64_t seen = core_->locks.changes();
  const pid_t caller = reply.caller().pid;
  if (core_->locks.is_in_circle(*waits) && asks_for_process(caller)) return std::move(reply).error(EDEADLK);
  struct flock nothing = range;
  nothing.l_type = F_UNLCK;
  core_->waiters.wait(
      open->share, std::move(reply),
      [core = core_.get(), set, range, waits = std::move(waits), seen, caller]() mutable {
        const int again = set(range);
        const std::uint64_t now = core->locks.changes();
        if (again != EAGAIN || now == std::exchange(seen, now)) return again;
        if (!core->locks.is_in_circle(*waits) || !asks_for_process(caller)) return again;
        waits.reset();  // at once, so that no other one in the circle is answered so
        return EDEADLK;
      },
      [core = core_.get(), set, nothing, node, number = handle.fh](bool taken) {
        if (taken) set(nothing);
        // Closed meanwhile: nothing else would end what an attempt has left.
        if (core->handles.find(number, node) == nullptr) core->locks.drop_handle(node, number);
      });
}

void ShareFs::flock(Reply reply, NodeId node, const fuse_file_info& handle, int operation) {
  const std::shared_ptr<Handle> open = core_->handles.find(handle.fh, node);
  if (open == nullptr) return std::move(reply).error(EBADF);
  const bool wait = (operation & LOCK_NB) == 0;
  const int code = attempt_surely(wait, [&] { return lock_file(*open, operation); });
  if (code == 0 && (operation & LOCK_EX) == 0) core_->waiters.wake(open->share);
  if (code != EAGAIN || !wait) return std::move(reply).error(code);
  core_->waiters.wait(
      open->share, std::move(reply), [open, operation] { return lock_file(*open, operation); },
      [open](bool taken) {
        if (taken) lock_file(*open, LOCK_UN);
      });
}

}  // namespace berth::fuse
