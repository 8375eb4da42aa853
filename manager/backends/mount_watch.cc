#include "manager/backends/mount_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include <utility>

#include "manager/backends/berth_backend.h"
#include "src/lib/sys/file.h"

namespace berth::manager {

Result<MountWatch> MountWatch::make(int cancel_fd) {
  UniqueFd table = TRY(sys::open_at(AT_FDCWD, "/proc/thread-self/mountinfo", O_RDONLY));
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno();
  epoll_event changed{};
  changed.events = EPOLLPRI | EPOLLERR;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, table.get(), &changed) != 0) return fail_errno();
  epoll_event cancel{};
  cancel.events = EPOLLIN;
  if (cancel_fd >= 0 && ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, cancel_fd, &cancel) != 0) return fail_errno();
  return MountWatch(std::move(table), std::move(epoll), cancel_fd);
}

Result<> MountWatch::also(int fd) {
  epoll_event readable{};
  readable.events = EPOLLIN;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &readable) != 0) return fail_errno();
  return {};
}

bool MountWatch::wait(TimePoint deadline) noexcept { return wait_readable(epoll_.get(), deadline); }

bool MountWatch::cancelled() const noexcept {
  pollfd watched{cancel_fd_, POLLIN, 0};  // poll(2) ignores -1
  return ::poll(&watched, 1, 0) > 0;
}

}  // namespace berth::manager
