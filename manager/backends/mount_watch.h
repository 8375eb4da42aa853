#pragma once

#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// Reports when the mount table has changed, so that no thread has to poll it (proc(5), /proc/PID/mounts:
/// POLLERR | POLLPRI after a change).
///
/// Threading: one thread.
class MountWatch {
 public:
  /// From now on. `cancel_fd` is watched as well; -1: none.
  static Result<MountWatch> make(int cancel_fd);

  /// Watches another descriptor as well, until that is closed.
  Result<> also(int fd);

  /// An epoll descriptor: readable when the mount table has changed or another descriptor is readable.
  [[nodiscard]] int fd() const noexcept { return epoll_.get(); }
  /// Waits for that. False at `deadline`.
  bool wait(TimePoint deadline) noexcept;
  [[nodiscard]] bool cancelled() const noexcept;

 private:
  MountWatch(UniqueFd table, UniqueFd epoll, int cancel_fd) noexcept
      : table_(std::move(table)), epoll_(std::move(epoll)), cancel_fd_(cancel_fd) {}
  UniqueFd table_;
  UniqueFd epoll_;
  int cancel_fd_;
};

}  // namespace berth::manager
