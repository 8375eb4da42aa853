#pragma once

namespace berth {

/// A moment at which a test can have the server die (kill -9), to prove that the next one makes good what this one has
/// begun. Nothing, unless built with -Dcrash_points=true.
///
/// The environment's BERTH_CRASH_FILE names a file that the test writes when it is time: "make-done taken-back" has who
/// comes to the first point die there, and then who comes to the second one. The file goes with the last word.
#ifdef BERTH_CRASH_POINTS
void crash_point(const char* name) noexcept;
/// From now on this process dies at its crash point.
void arm_crash_points() noexcept;
#else
inline void crash_point(const char*) noexcept {}
inline void arm_crash_points() noexcept {}
#endif

}  // namespace berth
