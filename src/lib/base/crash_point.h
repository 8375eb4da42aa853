#pragma once

namespace berth {

/// A moment at which a test can have the server (or the agent, `berth add`, `berth remove`) die (kill -9), to prove
/// that the next one repairs what this one has begun. Nothing, unless built with -Dcrash_points=true.
///
/// The environment's BERTH_CRASH_FILE names a file that the test writes when it is time. With "make-done taken-back",
/// the server that comes to the first point dies there, and then the one that comes to the second point. The file goes
/// with the last word.
#ifdef BERTH_CRASH_POINTS
void crash_point(const char* name) noexcept;
/// From now on this process dies at its crash point.
void arm_crash_points() noexcept;
#else
inline void crash_point(const char*) noexcept {}
inline void arm_crash_points() noexcept {}
#endif

}  // namespace berth
