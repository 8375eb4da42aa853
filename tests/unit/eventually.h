#pragma once

#include <chrono>
#include <thread>

namespace berth::testing {

/// The one deadline of the tests: long enough for any machine, so that only what never comes misses it.
inline constexpr std::chrono::seconds kPatience{30};

inline std::chrono::steady_clock::time_point patience() { return std::chrono::steady_clock::now() + kPatience; }

/// Whether `condition` comes true; for what happens in another process or thread that sends no notification.
template <typename Condition>
bool eventually(Condition condition) {
  const auto deadline = patience();
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace berth::testing
