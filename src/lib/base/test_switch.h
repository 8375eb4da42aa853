#pragma once

#include <cstddef>
#include <cstdlib>

namespace berth {

/// Whether a test or a benchmark has switched something off, by a variable of the environment. Never, unless built with
/// -Dcrash_points=true.
inline bool is_switched_off([[maybe_unused]] const char* variable) noexcept {
#ifdef BERTH_CRASH_POINTS
  return std::getenv(variable) != nullptr;
#else
  return false;
#endif
}

/// A number in place of `usual`, which a test has set by a variable of the environment; likewise.
inline std::size_t number_for_tests([[maybe_unused]] const char* variable, std::size_t usual) noexcept {
#ifdef BERTH_CRASH_POINTS
  if (const char* const set = std::getenv(variable)) return std::strtoul(set, nullptr, 10);
#endif
  return usual;
}

}  // namespace berth
