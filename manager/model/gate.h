#pragma once

#include <atomic>
#include <cstdint>

namespace berth::manager {

/// Counts the users of one mounted share and decides which requests may become one.
///
/// Every request passes a gate, so it takes no lock: the count and the "closed" flag share one word, and a share can
/// never be seen idle by the reaper and entered by a request at the same time.
///
/// Threading: any thread may call anything. Only the control thread opens and closes. A gate is made closed.
class Gate {
 public:
  /// Enters unless the gate is closed. Each success is owed exactly one leave().
  [[nodiscard]] bool try_enter() noexcept {
    std::uint64_t word = word_.load(std::memory_order_relaxed);
    do {
      if ((word & kClosed) != 0) return false;
    } while (!word_.compare_exchange_weak(word, word + 1, std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }

  /// Enters for a user that is already inside (a second handle), closed or not.
  void enter_again() noexcept { word_.fetch_add(1, std::memory_order_relaxed); }

  /// What a leaving user leaves behind.
  enum class Left : std::uint8_t {
    kOthers,       ///< other users are inside
    kIdle,         ///< no user is inside, the gate is open
    kClosedEmpty,  ///< this was the last user of a closed gate: the control thread must be notified
  };
  [[nodiscard]] Left leave() noexcept {
    const std::uint64_t before = word_.fetch_sub(1, std::memory_order_acq_rel);
    if (before == 1) return Left::kIdle;
    return before == (kClosed | 1) ? Left::kClosedEmpty : Left::kOthers;
  }

  /// Closes the gate only if no user is inside, so that an idle share can be unmounted.
  [[nodiscard]] bool close_if_idle() noexcept {
    std::uint64_t idle = 0;
    return word_.compare_exchange_strong(idle, kClosed, std::memory_order_acq_rel, std::memory_order_relaxed);
  }

  /// Closes the gate; users that are inside stay. Answers their number.
  std::uint64_t close() noexcept { return word_.fetch_or(kClosed, std::memory_order_acq_rel) & ~kClosed; }

  /// Lets users in. A user that enters sees all that was stored before.
  void open() noexcept { word_.fetch_and(~kClosed, std::memory_order_release); }

  [[nodiscard]] std::uint64_t users() const noexcept { return word_.load(std::memory_order_acquire) & ~kClosed; }
  [[nodiscard]] bool closed() const noexcept { return (word_.load(std::memory_order_acquire) & kClosed) != 0; }

 private:
  static constexpr std::uint64_t kClosed = std::uint64_t{1} << 63;
  std::atomic<std::uint64_t> word_{kClosed};
};

}  // namespace berth::manager
