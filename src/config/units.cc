#include "src/config/units.h"

#include <array>
#include <cerrno>
#include <charconv>

#include "src/config/mistakes.h"

namespace berth::config {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t value;
};

constexpr std::array<Unit, 5> kTimes{{{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
constexpr std::array<Unit, 14> kSizes{{{"", 1},
                                       {"B", 1},
                                       {"K", 1ULL << 10},
                                       {"KiB", 1ULL << 10},
                                       {"KB", 1'000},
                                       {"M", 1ULL << 20},
                                       {"MiB", 1ULL << 20},
                                       {"MB", 1'000'000},
                                       {"G", 1ULL << 30},
                                       {"GiB", 1ULL << 30},
                                       {"GB", 1'000'000'000},
                                       {"T", 1ULL << 40},
                                       {"TiB", 1ULL << 40},
                                       {"TB", 1'000'000'000'000}}};

/// The digits and then the letters that `text` starts with, taken off it.
struct Quantity {
  std::string_view digits;
  std::string_view unit;
};
Quantity take_quantity(std::string_view& text) {
  const auto take = [&text](auto&& belongs) {
    std::size_t length = 0;
    while (length < text.size() && belongs(text[length])) ++length;
    const std::string_view taken = text.substr(0, length);
    text.remove_prefix(length);
    return taken;
  };
  const std::string_view digits = take([](char c) { return c >= '0' && c <= '9'; });
  const std::string_view unit = take([](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
  return {digits, unit};
}

/// digits * unit, if that is at most `limit`.
bool multiply(std::string_view digits, std::uint64_t unit, std::uint64_t limit, std::uint64_t& product) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return error == std::errc() && end == digits.data() + digits.size() &&
         !__builtin_mul_overflow(number, unit, &product) && product <= limit;
}

}  // namespace

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  const std::string whole = shown(text);
  constexpr auto kLimit = static_cast<std::uint64_t>(kMaxDuration.count());
  if (text == "0") return std::chrono::milliseconds(0);
  std::uint64_t sum = 0;
  std::size_t next_unit = 0;
  do {
    const Quantity part = take_quantity(text);
    if (part.digits.empty()) return fail(EINVAL, whole + " is not a duration such as \"500ms\", \"10s\" or \"1h30m\"");
    if (part.unit.empty()) return fail(EINVAL, whole + " lacks a unit: ms, s, m, h or d, as in \"10s\"");
    std::size_t unit = 0;
    while (unit < kTimes.size() && kTimes[unit].name != part.unit) ++unit;
    if (unit == kTimes.size()) {
      return fail(EINVAL, whole + " has the unknown unit " + shown(part.unit) + "; ms, s, m, h or d");
    }
    if (unit < next_unit)
      return fail(EINVAL, whole + " is not in order: larger units first, each once, as in \"1h30m\"");
    next_unit = unit + 1;
    std::uint64_t product = 0;
    if (!multiply(part.digits, kTimes[unit].value, kLimit, product) || sum + product > kLimit) {
      return fail(ERANGE, whole + " is longer than ten years");
    }
    sum += product;
  } while (!text.empty());
  return std::chrono::milliseconds(static_cast<std::int64_t>(sum));
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const std::string whole = shown(text);
  const Quantity size = take_quantity(text);
  if (size.digits.empty() || !text.empty()) return fail(EINVAL, whole + " is not a size such as \"64MiB\" or \"10M\"");
  for (const Unit& unit : kSizes) {
    if (unit.name != size.unit) continue;
    std::uint64_t bytes = 0;
    if (!multiply(size.digits, unit.value, UINT64_MAX, bytes))
      return fail(ERANGE, whole + " is more than can be counted");
    return bytes;
  }
  return fail(EINVAL, whole + " has the unknown unit " + shown(size.unit) + "; KiB, MiB, GiB or TiB");
}

Result<mode_t> parse_mode(std::string_view text) {
  mode_t mode = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (error != std::errc() || end != text.data() + text.size() || mode > 07777 || text.size() < 3) {
    return fail(EINVAL, shown(text) + " is not a mode in octal such as \"0755\"");
  }
  return mode;
}

}  // namespace berth::config
