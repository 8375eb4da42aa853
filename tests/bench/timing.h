#pragma once

#include <time.h>

#include <cstdint>

namespace berth::bench {

/// The monotonic clock, in nanoseconds.
inline std::int64_t nanoseconds_now() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace berth::bench
