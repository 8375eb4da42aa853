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
  /// Takes what a backslash stands before, which is not in quotes.
  Result<> take_escaped(std::string& text);
  /// Puts in what a '$' stands for.
  Result<> put_variable(std::string& text);
  /// Puts in a value that depends on the caller. `text`: the word up to there.
  Result<> put_of_caller(std::string& text, std::string_view name);
  /// Puts in a character that stands for itself.
  void put_literal(std::string& text, char c) const;
  Result<> put_key(std::string& text) const;
  /// Puts in what stands for a value in a template.
  static Result<> put_mark(std::string& text, const std::string& mark);
  [[nodiscard]] Word::Kind kind_here(const std::string& text, std::size_t begin) const noexcept;
  [[nodiscard]] bool is_at_end() const noexcept { return at_ == value_.size() || is_space(value_[at_]); }

  std::string_view value_;
  const EntryContext& context_;
  std::size_t at_ = 0;
  bool quoted_ = false;          ///< behind a '"'
  bool escaped_quotes_ = false;  ///< behind a "\"", which keeps blanks together as a '"' does
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

Result<> WordReader::put_of_caller(std::string& text, std::string_view name) {
  const std::string shown = "the variable " + quote("$" + std::string(name)) + " is of the user that asks";
  if (text.starts_with('-')) {
    const std::size_t comma = text.rfind(',');
    const std::string_view option = std::string_view(text).substr(comma == std::string::npos ? 1 : comma + 1);
    if (option.find('=') == std::string_view::npos || option.starts_with("fstype="))
      return fail(EINVAL, shown + ", and would be an option or a type; it can be the value of an option");
  }
  if (!context_.key) return put_mark(text, context_.marks.find(name)->second);
  if (!context_.of_caller) return fail(EINVAL, shown + "; only the entries of wildcards and programs have it");
  for (const char c : TRY(context_.of_caller(name))) put_literal(text, c);
  return {};
}

Result<> WordReader::put_variable(std::string& text) {
  // "srv/c$" is how a hidden share of SMB is called.
  if (is_at_end()) {
    put_literal(text, '$');
    return {};
  }
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
  if (!context_.marks.contains(name)) {
    return fail(EINVAL, "the variable " + quote("$" + std::string(name)) + " has no value");
  }
  return put_of_caller(text, name);
}

Word::Kind WordReader::kind_here(const std::string& text, std::size_t begin) const noexcept {
  std::string_view rest = value_.substr(begin);
  if (rest.size() > 1 && rest.front() == '\\') rest.remove_prefix(1);
  char first = rest.front();
  if (first == '"' && rest.size() > 1 && rest[1] == '/') first = '/';
  if (first == '$' && !text.empty()) first = text.front();
  if (first == '-') return Word::Kind::kOptions;
  return first == '/' ? Word::Kind::kOffset : Word::Kind::kLocation;
}

// automount takes backslashes away twice, and quotes the second time.
Result<> WordReader::take_escaped(std::string& text) {
  if (at_ == value_.size()) return {};
  const char c = value_[at_++];
  if (c == '"') {
    escaped_quotes_ = !escaped_quotes_;
  } else if (c != '\\' || escaped_quotes_) {
    put_literal(text, c);
  } else if (at_ < value_.size()) {
    // What stands behind two of them has one still.
    const char next = value_[at_];
    if (next == '"') return fail(EINVAL, "a quote stands behind two backslashes, and would be a part of the word");
    if (next == '&' || next == '$' || next == ':') return {};
    ++at_;
    put_literal(text, next == '\\' && at_ < value_.size() ? value_[at_++] : next);
  }
  return {};
}

Result<Word> WordReader::next() {
  const std::size_t begin = at_;
  std::string text;
  bool seen_path = false;  // behind ":/"
  while (quoted_ || escaped_quotes_ ? at_ < value_.size() : !is_at_end()) {
    const char c = value_[at_++];
    if (c == '"') {
      if (escaped_quotes_) return fail(EINVAL, "a quote stands within quotes behind a backslash");
      quoted_ = !quoted_;
    } else if (quoted_) {
      put_literal(text, c);
    } else if (c == '\\') {
      TRY_VOID(take_escaped(text));
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
  if (quoted_ || escaped_quotes_) return fail(EINVAL, "a quote is not closed");
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
