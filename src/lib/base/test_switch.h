#pragma once

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

}  // namespace berth
