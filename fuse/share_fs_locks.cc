#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "fuse/share_fs.h"
#include "fuse/share_fs_core.h"

// The operations of ShareFs on locks. A lock of flock(2) is that of a handle's descriptor, one of fcntl(2) is in LockTable.
namespace berth::fuse {
namespace {

int code_of(const Result<>& result) noexcept { return result ? 0 : result.error().code(); }

int lock_file(const Handle& handle, int operation) noexcept {
  if (::flock(handle.fd(), operation | LOCK_NB) == 0) return 0;
  return errno == EWOULDBLOCK ? EAGAIN : errno;
}

/// The kernel does not wait until we have closed what its callers have closed. Who asks next may be told of a lock that is
/// over for them, so who will not wait is refused only after a moment.
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

}  // namespace

void ShareFs::getlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range) {
  core_->visit_open(std::move(reply), node, handle.fh, [&](const Visit& visit, const Handle& open, Reply to) {
    const Result<struct flock> found = core_->locks.find({open, handle.fh, handle.lock_owner, range});
    if (!found) return core_->refuse(visit, std::move(to), found.error());
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
  struct flock nothing = range;
  nothing.l_type = F_UNLCK;
  core_->waiters.wait(
      open->share, std::move(reply), [set, range] { return set(range); },
      [core = core_.get(), set, nothing, node, number = handle.fh](bool taken) {
        if (taken) set(nothing);
        // Closed meanwhile: nobody else would end what an attempt has left.
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
