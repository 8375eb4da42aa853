#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string_view>

#include "src/base/result.h"

/// Numbers with units, as people write them.
namespace berth::config {

/// Longest duration that may be written.
inline constexpr std::chrono::milliseconds kMaxDuration{std::chrono::hours(24 * 3650)};

/// "500ms", "10s", "5m", "2h", "1d", "1h30m" (from the larger unit to the smaller), "0".
/// Errors: EINVAL, ERANGE beyond kMaxDuration, with a story.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// Bytes: "4096", "64KiB", "10M" (K, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB of 1000).
/// Errors: EINVAL, ERANGE beyond 64 bits, with a story.
Result<std::uint64_t> parse_size(std::string_view text);

/// Permission bits, octal: "0755". Errors: EINVAL with a story.
Result<mode_t> parse_mode(std::string_view text);

}  // namespace berth::config
