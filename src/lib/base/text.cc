#include "src/lib/base/text.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>
#include <numeric>

#include "src/lib/base/ascii.h"

namespace berth {
namespace {

/// One character of a text that may not be UTF-8.
struct Character {
  std::size_t size;  ///< bytes, at least 1
  char32_t code;     ///< kInvalid: the one byte is not UTF-8
};
constexpr char32_t kInvalid = 0xFFFFFFFF;

constexpr Character kBad{.size = 1, .code = kInvalid};

/// The character at the beginning of `text`, which is not empty.
Character decode(std::string_view text) noexcept {
  const auto byte = [text](std::size_t at) { return static_cast<std::uint8_t>(text[at]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) return {.size = 1, .code = first};
  const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < size) return kBad;
  char32_t code = first & (0xFFU >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0U) != 0x80) return kBad;
    code = (code << 6U) | (byte(i) & 0x3FU);
  }
  // RFC 3629: the shortest form only, no surrogates, nothing above U+10FFFF.
  constexpr std::array<char32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[size] || surrogate || code > 0x10FFFF) return kBad;
  return {.size = size, .code = code};
}

struct Range {
  char32_t first, last;
};

/// What a terminal or a reader takes for something else than a character of its line: controls, line and paragraph
/// separators, and what has no width or turns the direction of the text around it (Unicode: Cc, Cf, Zl, Zp,
/// Default_Ignorable_Code_Point).
constexpr std::array kHostile = {
    Range{0x0000, 0x001F},   Range{0x007F, 0x009F},   Range{0x00AD, 0x00AD},     Range{0x034F, 0x034F},
    Range{0x0600, 0x0605},   Range{0x061C, 0x061C},   Range{0x06DD, 0x06DD},     Range{0x070F, 0x070F},
    Range{0x08E2, 0x08E2},   Range{0x115F, 0x1160},   Range{0x17B4, 0x17B5},     Range{0x180B, 0x180F},
    Range{0x200B, 0x200F},   Range{0x2028, 0x202E},   Range{0x2060, 0x206F},     Range{0x2800, 0x2800},
    Range{0x3164, 0x3164},   Range{0xFE00, 0xFE0F},   Range{0xFEFF, 0xFEFF},     Range{0xFFA0, 0xFFA0},
    Range{0xFFF0, 0xFFFB},   Range{0x110BD, 0x110BD}, Range{0x13430, 0x1343F},   Range{0x1BCA0, 0x1BCA3},
    Range{0x1D173, 0x1D17A}, Range{0xE0000, 0xE0FFF}, Range{kInvalid, kInvalid},
};

bool is_hostile(char32_t code) noexcept {
  if (code >= 0x20 && code < 0x7F) return false;
  return std::any_of(kHostile.begin(), kHostile.end(),
                     [code](const Range& range) { return code >= range.first && code <= range.last; });
}

void append_escape(std::string& to, char c) {
  switch (c) {
    case '\n':
      to += "\\n";
      break;
    case '\t':
      to += "\\t";
      break;
    case '\r':
      to += "\\r";
      break;
    case '"':
      to += "\\\"";
      break;
    case '\\':
      to += "\\\\";
      break;
    // Octal: three digits always end it, while a hexadecimal escape of C would swallow digits that follow.
    default:
      fmt::format_to(std::back_inserter(to), "\\{:03o}", static_cast<std::uint8_t>(c));
  }
}

std::string escape_all(std::string_view raw, bool escape_space) {
  std::string result;
  result.reserve(raw.size() + 2);
  while (!raw.empty()) {
    const Character next = decode(raw);
    const bool special = next.code == '"' || next.code == '\\' || (escape_space && next.code == ' ');
    if (special || is_hostile(next.code)) {
      for (const char c : raw.substr(0, next.size)) append_escape(result, c);
    } else {
      result += raw.substr(0, next.size);
    }
    raw.remove_prefix(next.size);
  }
  return result;
}

bool is_plain(std::string_view argument) noexcept {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  return !argument.empty() && argument.find_first_not_of(kPlain) == std::string_view::npos;
}

/// `value` with about three digits that count and no zeros at the end.
std::string three_digits(double value) {
  std::string text = fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

/// Insertions, deletions, replacements and exchanges of neighbours that lead from `a` to `b` (optimal string
/// alignment).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_previous(b.size() + 1);
  std::vector<std::size_t> previous(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(previous.begin(), previous.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({previous[j] + 1, row[j - 1] + 1, previous[j - 1] + cost});
      const bool exchanged = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (exchanged) row[j] = std::min(row[j], before_previous[j - 2] + 1);
    }
    before_previous.swap(previous);
    previous.swap(row);
  }
  return previous[b.size()];
}

}  // namespace

bool is_harmless(std::string_view text) noexcept {
  text.remove_prefix(printable_ascii_prefix(text));
  while (!text.empty()) {
    const Character next = decode(text);
    if (is_hostile(next.code)) return false;
    text.remove_prefix(next.size);
  }
  return true;
}

std::string escape_hostile(
    std::string_view text,
    const std::function<void(std::string& to, std::string_view character, char32_t code)>& escape) {
  std::string result;
  result.reserve(text.size());
  for (;;) {
    // By far the most of what is printed: 10,000 shares are two megabytes of it.
    const std::size_t plain = printable_ascii_prefix(text);
    result += text.substr(0, plain);
    text.remove_prefix(plain);
    if (text.empty()) return result;
    const Character next = decode(text);
    const std::string_view character = text.substr(0, next.size);
    if (is_hostile(next.code)) {
      escape(result, character, next.code);
    } else {
      result += character;
    }
    text.remove_prefix(next.size);
  }
}

std::string prose(std::string_view text) { return is_harmless(text) ? std::string(text) : escape_all(text, false); }

std::string quote(std::string_view raw) { return '"' + escape_all(raw, false) + '"'; }

std::string escape(std::string_view raw) { return escape_all(raw, true); }

std::string quote_command(const std::vector<std::string>& argv) {
  std::string result;
  for (const std::string& argument : argv) {
    if (!result.empty()) result += ' ';
    result += is_plain(argument) ? argument : quote(argument);
  }
  return result;
}

std::string format_duration(std::chrono::nanoseconds duration) {
  using std::chrono::nanoseconds;
  if (duration == nanoseconds::min()) duration += nanoseconds(1);  // it has no positive counterpart
  if (duration < nanoseconds::zero()) return "-" + format_duration(-duration);
  if (duration == nanoseconds::zero()) return "0s";
  const auto count = static_cast<double>(duration.count());
  if (count < 1e3) return fmt::format("{}ns", duration.count());
  if (count < 999.5e3) return three_digits(count / 1e3) + "us";
  if (count < 999.5e6) return three_digits(count / 1e6) + "ms";
  if (count < 59.95e9) return three_digits(count / 1e9) + "s";

  // Not chrono::round: it overflows on the longest durations.
  const auto seconds = duration.count() / 1'000'000'000 + (duration.count() % 1'000'000'000 >= 500'000'000 ? 1 : 0);
  std::string result;
  if (seconds >= 3600) result += fmt::format("{}h", seconds / 3600);
  if (seconds / 60 % 60 != 0) result += fmt::format("{}m", seconds / 60 % 60);
  if (seconds % 60 != 0) result += fmt::format("{}s", seconds % 60);
  return result;
}

std::string format_time(std::chrono::system_clock::time_point time) {
  const auto milliseconds = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch());
  const auto seconds = std::chrono::floor<std::chrono::seconds>(milliseconds);
  const std::time_t since_epoch = seconds.count();
  std::tm parts{};
  if (::gmtime_r(&since_epoch, &parts) == nullptr) return "-";
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, (milliseconds - seconds).count());
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const Character next = decode(text);
    if (next.code == kInvalid) return false;
    text.remove_prefix(next.size);
  }
  return true;
}

namespace {

/// Whether `word` is `whole` without some of its letters.
bool leaves_out(std::string_view word, std::string_view whole) noexcept {
  for (const char letter : whole) {
    if (!word.empty() && word.front() == letter) word.remove_prefix(1);
  }
  return word.empty();
}

}  // namespace

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
  // The distance takes time in the product of the lengths, and no known name is near to so long a word.
  constexpr std::size_t kLongest = 256;
  if (word.size() > kLongest) return {};
  const std::string typed = to_lower(word);
  std::string_view best;
  std::size_t best_distance = std::string_view::npos;
  for (const std::string_view candidate : candidates) {
    if (candidate.size() > kLongest) continue;
    const std::size_t steps = distance(typed, to_lower(candidate));
    // If two are as near, letters were rather left out than typed in excess: "umount" is "unmount", and not "mount".
    const bool is_nearer =
        steps < best_distance || (steps == best_distance && leaves_out(typed, candidate) && !leaves_out(typed, best));
    if (is_nearer && steps <= std::max(word.size(), candidate.size()) / 3) {
      best = candidate;
      best_distance = steps;
    }
  }
  return best;
}

}  // namespace berth
