#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// Interrupts that the kernel has sent: those of requests that have no answer yet, and those that the kernel is to send
/// again.
///
/// Threading: any thread may call anything; take_due() one at a time.
class Interrupts {
 public:
  /// The request has no answer yet.
  void add(std::uint64_t unique);
  /// Calls `try_end` with the number of each request. Forgets those for which it is true, and those so old that their
  /// requests are answered by now.
  void end_requests(TimePoint now, const std::function<bool(std::uint64_t unique)>& try_end);
  /// Whether the interrupt ends the request of `caller`: the kernel interrupts it also where the caller is only to stop
  /// (SIGSTOP, ptrace(2)), and programs do not expect EINTR then. If not, take_due() names it in a moment, for the
  /// kernel interrupts a request once, whatever signals come next. A wait for a lock ends always: the kernel makes
  /// ERESTARTSYS of its EINTR (fuse_setlk()).
  [[nodiscard]] bool ends_request(std::uint64_t unique, pid_t caller, std::uint32_t opcode);
  /// Numbers of interrupts to which EAGAIN is the answer now: the kernel sends these again, if their requests are not
  /// answered meanwhile (fuse_dev_do_write()).
  [[nodiscard]] std::vector<std::uint64_t> take_due(TimePoint now);

  [[nodiscard]] bool has_any() const noexcept { return pending_now_.load() != 0 || again_now_.load() != 0; }

 private:
  struct Interrupt {
    std::uint64_t unique;
    TimePoint since;
  };

  std::atomic<std::size_t> pending_now_{0};  ///< of pending_
  std::atomic<std::size_t> again_now_{0};    ///< of again_

  Mutex mutex_;
  std::deque<Interrupt> pending_ BERTH_GUARDED_BY(mutex_);
  std::deque<Interrupt> again_ BERTH_GUARDED_BY(mutex_);  ///< that the kernel is to send again
  TimePoint taken_{};                                     ///< when take_due() took some last
};

}  // namespace berth::fuse
