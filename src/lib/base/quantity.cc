#include "src/lib/base/quantity.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <string>

#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"

namespace berth {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t value;
};
constexpr std::array<Unit, 5> kTimes{{{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};

/// What was written, quoted, and not at a length that drowns the message.
std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 80;
  return text.size() <= kMost ? quote(text) : quote(text.substr(0, kMost)) + "...";
}

}  // namespace

Quantity take_quantity(std::string_view& text) {
  const auto take = [&text](auto&& belongs) {
    std::size_t length = 0;
    while (length < text.size() && belongs(text[length])) ++length;
    const std::string_view taken = text.substr(0, length);
    text.remove_prefix(length);
    return taken;
  };
  const std::string_view digits = take(is_digit);
  const std::string_view unit = take(is_letter);
  return {digits, unit};
}

bool multiply(std::string_view digits, std::uint64_t unit, std::uint64_t limit, std::uint64_t& product) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return error == std::errc() && end == digits.data() + digits.size() &&
         !__builtin_mul_overflow(number, unit, &product) && product <= limit;
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  const std::string whole = shown(text);
  constexpr auto kLimit = static_cast<std::uint64_t>(kMaxDuration.count());
  if (text == "0") return std::chrono::milliseconds(0);
  std::uint64_t sum = 0;
  std::size_t next_unit = 0;
  do {
    const Quantity part = take_quantity(text);
    if (part.digits.empty()) return fail(EINVAL, whole + " is not a duration such as \"500ms\", \"10s\" or \"1h30m\"");
    if (part.unit.empty()) {
      const std::string where = text.empty() ? "" : " right behind the " + std::string(part.digits);
      return fail(EINVAL, whole + " lacks a unit" + where + ": ms, s, m, h or d, as in \"10s\"");
    }
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

}  // namespace berth
