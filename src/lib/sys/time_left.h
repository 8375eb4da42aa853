#pragma once

#include <algorithm>
#include <chrono>
#include <climits>

#include "src/lib/base/clock.h"

namespace berth::sys {

/// The time until `deadline`, zero when it has passed. Bears TimePoint::min() and max().
inline Duration time_left(TimePoint deadline) noexcept {
  const TimePoint now = std::chrono::steady_clock::now();
  return deadline <= now ? Duration::zero() : deadline - now;
}

/// The time until `deadline` as a timeout for poll(2), in milliseconds; 0 when it has passed. Rounded up, so that the
/// last millisecond is not spent in a busy loop.
inline int poll_timeout(TimePoint deadline) noexcept {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(time_left(deadline));
  return static_cast<int>(std::min<std::chrono::milliseconds::rep>(left.count(), INT_MAX));
}

}  // namespace berth::sys
