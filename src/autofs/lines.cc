#include "src/autofs/lines.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "src/autofs/characters.h"
#include "src/lib/base/text.h"

namespace berth::autofs {
namespace {

/// A line with its continuations, still with its quotes and escapes.
struct RawLine {
  std::uint32_t number = 0;
  std::string text;
  bool is_comment = false;
  bool has_open_quote = false;
  bool is_cut = false;  ///< the file ends behind a backslash
};

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::optional<RawLine> next();
  /// Whether the line that comes next starts with a blank.
  [[nodiscard]] bool is_indented() const noexcept { return at_ < text_.size() && is_blank(text_[at_]); }
  /// The same, and more than blanks is in it.
  [[nodiscard]] bool has_indented_text() const noexcept;

 private:
  std::string_view text_;
  std::size_t at_ = 0;
  std::uint32_t number_ = 1;
};

std::optional<RawLine> Reader::next() {
  if (at_ >= text_.size()) return std::nullopt;
  RawLine line;
  line.number = number_;
  bool is_blank = true;
  while (at_ < text_.size()) {
    const char c = text_[at_++];
    if (c == '\n') {
      ++number_;
      return line;
    }
    if (is_blank && !is_space(c)) {
      is_blank = c == '\\' && at_ < text_.size() && text_[at_] == '\n';
      line.is_comment = c == '#';
    }
    if (c == '\\' && !line.has_open_quote && at_ < text_.size()) {
      if (text_[at_] == '\n') {
        ++at_;
        ++number_;
        line.is_cut = at_ == text_.size();
      } else {
        line.text.append({c, text_[at_++]});
      }
      continue;
    }
    if (c == '"' && !line.is_comment) line.has_open_quote = !line.has_open_quote;
    line.text += c;
  }
  return line;
}

bool Reader::has_indented_text() const noexcept {
  if (!is_indented()) return false;
  const std::size_t word = text_.find_first_not_of(" \t", at_);
  return word != std::string_view::npos && text_[word] != '\n';
}

/// Takes the key off `text`, and puts it without quotes and escapes into `key`. `ascii`: what is beyond it stands in
/// quotes. Returns what is wrong with it, or "".
std::string take_key(std::string_view& text, bool ascii, std::string& key) {
  bool quoted = false;
  while (!text.empty() && (quoted || !is_space(text.front()))) {
    char c = text.front();
    text.remove_prefix(1);
    if (c == '"') {
      quoted = !quoted;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) return "the key holds a control character";
    if (ascii && !quoted && byte >= 0x80) return "a key with a character beyond ASCII stands in quotes";
    if (!quoted && c == '\\' && !text.empty()) {
      c = text.front();
      text.remove_prefix(1);
    }
    key += c;
  }
  if (key.empty()) return "the key is empty";
  return key.size() > kMaxKey ? "the key is longer than " + std::to_string(kMaxKey) + " bytes" : "";
}

/// What is wrong with a value, or "".
std::string value_fault(std::string_view value) {
  if (value.empty()) return "nothing follows the key";
  if (value.size() > kMaxValue) return "the entry is longer than " + std::to_string(kMaxValue) + " bytes";
  const bool holds_control = std::any_of(value.begin(), value.end(),
                                         [](char c) { return static_cast<unsigned char>(c) < 0x20 && !is_space(c); });
  return holds_control ? "the entry holds a control character" : "";
}

bool is_all_blank(const RawLine& line) noexcept {
  return !line.is_cut && std::all_of(line.text.begin(), line.text.end(), is_space);
}

/// Whether automount reads on to the end of a key. A bare '*' is one only if it stands alone.
bool starts_key(const RawLine& line) noexcept {
  const std::string_view text = skip_spaces(line.text);
  return !text.starts_with('\\') && !(text.starts_with('*') && text.size() > 1 && !is_space(text[1]));
}

/// Takes `raw` apart into `line`. Returns what is wrong with it, or "".
std::string take_apart(const RawLine& raw, MapKind kind, Line& line) {
  if (raw.is_cut) return "the file ends behind a backslash";
  if (raw.has_open_quote) return "a quote is not closed in its line";
  std::string_view text = skip_spaces(raw.text);
  if (text.starts_with('\\')) return "a key cannot start with a backslash; put it in quotes";
  const bool is_bare_star = text.starts_with('*');
  line.is_include = text.starts_with('+');
  if (line.is_include) text.remove_prefix(1);
  const bool ascii = kind != MapKind::kMaster && !line.is_include;
  if (std::string fault = take_key(text, ascii, line.key); !fault.empty()) return fault;
  if (is_bare_star && line.key != "*") return "'*' stands for all keys, and cannot be part of one";
  line.value = skip_spaces(text);
  return line.is_include && line.value.empty() ? "" : value_fault(line.value);
}

}  // namespace

std::string to_string(const Fault& fault) {
  return prose(fault.file) + ":" + std::to_string(fault.line) + ": " + prose(fault.reason);
}

Lines read_lines(std::string_view text, const std::string& file, MapKind kind) {
  Lines result;
  Reader reader(text);
  const auto add_fault = [&](std::uint32_t number, std::string reason) {
    result.faults.push_back({file, number, std::move(reason)});
  };
  while (const std::optional<RawLine> raw = reader.next()) {
    if (is_all_blank(*raw)) continue;
    Line line{raw->number, "", false, ""};
    std::string fault = raw->is_comment ? "" : take_apart(*raw, kind, line);
    bool is_left_out = raw->is_comment || !starts_key(*raw);
    if (fault.empty() && !line.is_include && !raw->is_comment && reader.has_indented_text()) {
      fault = "the next line starts with a blank; a backslash at the end of this line would join them";
      is_left_out = true;
    }
    if (!fault.empty()) {
      add_fault(raw->number, std::move(fault));
    } else if (!raw->is_comment) {
      result.lines.push_back(std::move(line));
    }
    // automount takes no indented line behind one that it leaves out, and a comment is such a line.
    while (is_left_out && reader.is_indented()) {
      const std::optional<RawLine> indented = reader.next();
      if (raw->is_comment && !indented->is_comment && !is_all_blank(*indented)) {
        add_fault(indented->number, "automount takes no line that starts with a blank behind a comment");
      }
    }
  }
  return result;
}

}  // namespace berth::autofs
