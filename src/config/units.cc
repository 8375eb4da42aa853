#include "src/config/units.h"

#include <array>
#include <cerrno>
#include <charconv>

#include "src/config/mistakes.h"
#include "src/lib/base/quantity.h"

namespace berth::config {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t value;
};

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

}  // namespace

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
