#pragma once

#include "src/lib/base/clock.h"

namespace berth::sys {

/// The time until `deadline`, zero when it has passed. Bears TimePoint::min() and max().
inline Duration time_left(TimePoint deadline) noexcept {
  const TimePoint now = std::chrono::steady_clock::now();
  return deadline <= now ? Duration::zero() : deadline - now;
}

}  // namespace berth::sys
