#pragma once

namespace berth::daemon {

/// Exit codes (sysexits.h) of serve() and check().
inline constexpr int kExitUsage = 64;
inline constexpr int kExitUnavailable = 69;
inline constexpr int kExitOs = 71;
inline constexpr int kExitNoPermission = 77;
inline constexpr int kExitConfiguration = 78;

}  // namespace berth::daemon
