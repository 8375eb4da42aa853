#define TOML_IMPLEMENTATION
#include "src/config/document.h"

#include <algorithm>

#include "src/config/remedy.h"
#include "src/lib/base/text.h"

namespace berth::config {
namespace {

std::uint32_t line_of(std::string_view text, std::size_t position) {
  return static_cast<std::uint32_t>(
      1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
}

/// The line with this number, from 1 on.
std::string_view line_at(std::string_view text, std::uint32_t number) {
  for (; number > 1 && !text.empty(); --number) text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  return text.substr(0, text.find('\n'));
}

/// Dots that can stand in a key: not those of an ornament ("....").
std::size_t count_dots(std::string_view line) {
  std::size_t dots = 0;
  for (std::size_t at = line.find('.'); at != std::string_view::npos; at = line.find('.', at + 1)) {
    const std::size_t next = line.find_first_not_of(" \t", at + 1);
    if (next != std::string_view::npos && line[next] != '.') ++dots;
  }
  return dots;
}

/// Messages of toml++ quote the text as it is: line breaks, control characters, names of any length.
std::string in_one_line(std::string_view description) {
  constexpr std::size_t kLongest = 300;
  std::size_t length = std::min(description.size(), kLongest);
  while (length > 0 && !is_utf8(description.substr(0, length))) --length;
  std::string line;
  for (const char c : description.substr(0, length)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool breaks = byte < 0x20 || byte == 0x7f;
    line += c == '\n' ? std::string("\\n") : breaks ? std::string("?") : std::string(1, c);
  }
  return length == description.size() ? line : line + "...";
}

}  // namespace

tl::expected<toml::table, SyntaxFault> parse(std::string_view text) {
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return tl::unexpected(SyntaxFault{line_of(text, nul), "not a text file: it holds a NUL byte"});
  }
  std::uint32_t line = 1;
  for (std::size_t start = 0; start < text.size(); ++line) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    const std::string_view content = text.substr(start, end - start);
    if (!is_utf8(content)) return tl::unexpected(SyntaxFault{line, "not UTF-8"});
    if (count_dots(content) > kMaxDotsInLine) {
      return tl::unexpected(SyntaxFault{line, "more than " + std::to_string(kMaxDotsInLine) + " dots in one line"});
    }
    start = end + 1;
  }
  toml::parse_result parsed = toml::parse(text);
  if (parsed.failed()) {
    const toml::parse_error& error = parsed.error();
    const std::string what = in_one_line(error.description());
    const std::string remedy = remedy_of(line_at(text, error.source().begin.line), what);
    return tl::unexpected(SyntaxFault{error.source().begin.line, remedy.empty() ? what : remedy + " (" + what + ")"});
  }
  return std::move(parsed).table();
}

}  // namespace berth::config
