#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// Waits for descriptors (epoll(7)) and for a wake-up from other threads (eventfd(2)).
///
/// Threading: wake() from any thread, the rest from one.
class Poller {
 public:
  static Result<Poller> make();

  /// Watches `fd` for `events` (EPOLLIN, EPOLLPRI, ...) under `tag` (not ~0). Errors: EEXIST, ENOSPC.
  Result<> add(int fd, std::uint32_t events, std::uint64_t tag) noexcept;
  void remove(int fd) noexcept;

  /// Makes a wait() that runs now, or the next one, return.
  void wake() noexcept;

  struct Ready {
    std::uint64_t tag;
    std::uint32_t events;
  };
  /// Blocks until something is ready, wake() was called or `deadline` passed (absent: no deadline). The result is valid
  /// until the next call, and empty after a wake-up or at the deadline.
  Result<std::span<const Ready>> wait(std::optional<TimePoint> deadline);

 private:
  Poller(UniqueFd epoll, UniqueFd wake) noexcept : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  UniqueFd epoll_;
  UniqueFd wake_;
  std::vector<Ready> ready_;
};

}  // namespace berth::sys
