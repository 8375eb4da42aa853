#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "src/lib/base/result.h"

/// Numbers with units, as people write them.
namespace berth {

/// Longest duration that may be written.
inline constexpr std::chrono::milliseconds kMaxDuration{std::chrono::hours(24 * 3650)};

/// "500ms", "10s", "5m", "2h", "1d", "1h30m" (from the larger unit to the smaller), "0".
/// Errors: EINVAL, ERANGE beyond kMaxDuration, with a story.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// The digits and then the letters that `text` starts with, taken off it.
struct Quantity {
  std::string_view digits;
  std::string_view unit;
};
Quantity take_quantity(std::string_view& text);

/// digits * unit, if that is at most `limit`.
bool multiply(std::string_view digits, std::uint64_t unit, std::uint64_t limit, std::uint64_t& product);

}  // namespace berth
