#pragma once

#include <chrono>

namespace berth {

/// Monotonic time; what every deadline and timer is measured in.
using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
/// Calendar time; only for what people read.
using WallTime = std::chrono::system_clock::time_point;

/// Where the time comes from, so that tests can turn it by hand.
///
/// Threading: any thread may call anything.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const noexcept = 0;
  [[nodiscard]] virtual WallTime wall_now() const noexcept = 0;
};

/// The machine's clocks.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const noexcept override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] WallTime wall_now() const noexcept override { return std::chrono::system_clock::now(); }
};

}  // namespace berth
