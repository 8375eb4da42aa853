#include "src/autofs/words.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/autofs/characters.h"
#include "src/lib/base/text.h"

namespace berth::autofs {
namespace {

/// Splits the words of one entry.
class WordReader {
 public:
  WordReader(std::string_view value, const EntryContext& context) : value_(value), context_(context) {}

  Result<std::vector<Word>> all();

 private:
  Result<Word> next();
  /// Puts in what a '$' stands for.
  Result<> put_variable(std::string& text);
  /// Puts in a character that stands for itself.
  void put_literal(std::string& text, char c) const;
  Result<> put_key(std::string& text) const;
  /// Puts in what stands for a value in a template.
  static Result<> put_mark(std::string& text, const std::string& mark);
  [[nodiscard]] Word::Kind kind_here(const std::string& text, std::size_t begin) const noexcept;

  std::string_view value_;
  const EntryContext& context_;
  std::size_t at_ = 0;
};

void WordReader::put_literal(std::string& text, char c) const {
  if ((c == '&' || c == '$') && !context_.key) text += '\\';
  text += c;
}

Result<> WordReader::put_key(std::string& text) const {
  if (context_.key) {
    text += *context_.key;
    return {};
  }
  return put_mark(text, "&");
}

Result<> WordReader::put_mark(std::string& text, const std::string& mark) {
  if (text.ends_with('\\')) {
    return fail(EINVAL, "a backslash right before " + quote(mark) + " cannot be told from one that quotes it");
  }
  text += mark;
  return {};
}

Result<> WordReader::put_variable(std::string& text) {
  const bool braces = at_ < value_.size() && value_[at_] == '{';
  const std::size_t begin = at_ + (braces ? 1 : 0);
  std::size_t end = begin;
  if (braces) {
    end = value_.find('}', begin);
    if (end == std::string_view::npos) return fail(EINVAL, "\"${\" is not closed by '}'");
  } else {
    while (end < value_.size() && is_name(value_[end])) ++end;
  }
  const std::string_view name = value_.substr(begin, end - begin);
  if (name.empty()) return fail(EINVAL, "'$' without a name; \"\\$\" is the character");
  at_ = end + (braces ? 1 : 0);
  if (const auto found = context_.variables.find(name); found != context_.variables.end()) {
    for (const char c : found->second) put_literal(text, c);
    return {};
  }
  const auto mark = context_.marks.find(name);
  const std::string shown = "the variable " + quote("$" + std::string(name));
  if (mark == context_.marks.end()) return fail(EINVAL, shown + " has no value");
  if (context_.key) return fail(EINVAL, shown + " is of the user that asks; only the entry of a wildcard has it");
  return put_mark(text, mark->second);
}

Word::Kind WordReader::kind_here(const std::string& text, std::size_t begin) const noexcept {
  char first = value_[begin];
  if (first == '"' && begin + 1 < value_.size() && value_[begin + 1] == '/') first = '/';
  if (first == '$' && !text.empty()) first = text.front();
  if (first == '-') return Word::Kind::kOptions;
  return first == '/' ? Word::Kind::kOffset : Word::Kind::kLocation;
}

Result<Word> WordReader::next() {
  const std::size_t begin = at_;
  std::string text;
  bool quoted = false;
  bool seen_path = false;  // behind ":/"
  while (at_ < value_.size() && (quoted || !is_space(value_[at_]))) {
    const char c = value_[at_++];
    if (c == '"') {
      quoted = !quoted;
    } else if (quoted) {
      put_literal(text, c);
    } else if (c == '\\') {
      if (at_ < value_.size()) put_literal(text, value_[at_++]);
    } else if (c == '&') {
      TRY_VOID(put_key(text));
    } else if (c == '$') {
      TRY_VOID(put_variable(text));
    } else if (c == ':') {
      text += seen_path && context_.slashify_colons ? '/' : ':';
      seen_path = seen_path || (at_ < value_.size() && value_[at_] == '/');
    } else {
      text += c;
    }
  }
  if (quoted) return fail(EINVAL, "a quote is not closed");
  Word word{kind_here(text, begin), std::move(text)};
  if (word.kind == Word::Kind::kOptions) word.text.erase(0, 1);
  return word;
}

Result<std::vector<Word>> WordReader::all() {
  std::vector<Word> words;
  while (true) {
    while (at_ < value_.size() && (is_space(value_[at_]) || value_[at_] == '\b')) ++at_;
    if (at_ == value_.size() || value_[at_] == '#') return words;
    words.push_back(TRY(next()));
  }
}

}  // namespace

Result<std::vector<Word>> read_words(std::string_view value, const EntryContext& context) {
  return WordReader(value, context).all();
}

}  // namespace berth::autofs
