#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth::autofs {

/// An entry of a map that cannot be used, and why.
struct Fault {
  std::string file;
  std::uint32_t line = 0;
  std::string reason;
  std::string unread;  ///< what could not be read, so that its entries are not known; "": all that there is was read

  friend bool operator==(const Fault&, const Fault&) = default;
};

/// "FILE:LINE: reason", in printable characters.
std::string to_string(const Fault& fault);

/// A line of a map with its continuations: the key, and what stands after it.
struct Line {
  std::uint32_t number = 0;  ///< of its first line
  std::string key;           ///< without quotes and escapes
  bool is_include = false;   ///< the key starts with a bare '+', and has lost it
  std::string value;         ///< as it is written, with quotes and escapes; "" in an include alone

  friend bool operator==(const Line&, const Line&) = default;
};

struct Lines {
  std::vector<Line> lines;
  std::vector<Fault> faults;
};

/// Longest key and longest value, in bytes (KEY_MAX_LEN and MAPENT_MAX_LEN of autofs 5.1.8).
inline constexpr std::size_t kMaxKey = 255;
inline constexpr std::size_t kMaxValue = 16384;

enum class MapKind : std::uint8_t { kMaster, kOther };

/// Splits the text of a map as automount does: comments and blank lines are left out, a backslash at the end joins
/// lines, quotes and backslashes keep blanks. `file` is for messages.
Lines read_lines(std::string_view text, const std::string& file, MapKind kind = MapKind::kOther);

}  // namespace berth::autofs
