#pragma once

#include <algorithm>
#include <chrono>

namespace berth {

/// How often something may happen: at once as often as `burst`, and in the long run every `interval` (a token bucket).
class Rate {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  Rate(unsigned burst, std::chrono::nanoseconds interval) noexcept : span_(interval * burst), interval_(interval) {}

  /// Whether it may happen now; if so, it counts.
  bool take(TimePoint now) noexcept {
    // What was taken, as the time until which it would last if there were no burst.
    const TimePoint from = std::max(taken_until_, now);
    if (from + interval_ - now > span_) return false;
    taken_until_ = from + interval_;
    return true;
  }

 private:
  std::chrono::nanoseconds span_;
  std::chrono::nanoseconds interval_;
  TimePoint taken_until_{};
};

}  // namespace berth
