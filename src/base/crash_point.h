#pragma once

namespace berth {

/// A moment at which a test can have the server die (kill -9), to prove that the next one makes good what this one has
/// begun. Nothing, unless built with -Dcrash_points=true.
///
/// The environment's BERTH_CRASH_POINT names the one that is meant, and only the first server is struck.
#ifdef BERTH_CRASH_POINTS
void crash_point(const char* name) noexcept;
/// From now on this process dies at its crash point.
void arm_crash_points() noexcept;
#else
inline void crash_point(const char*) noexcept {}
inline void arm_crash_points() noexcept {}
#endif

}  // namespace berth
