#include "src/lib/base/secrets.h"

#include <algorithm>
#include <array>
#include <utility>

#include "src/lib/base/secret_forms.h"
#include "src/lib/base/text.h"

namespace berth {
namespace {

/// A part of a text, by offsets.
struct Span {
  std::size_t begin;
  std::size_t end;
};
using Spans = std::vector<Span>;

constexpr std::size_t kNone = std::string_view::npos;

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_alphanumeric(char c) noexcept { return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z'); }
bool is_space(char c) noexcept { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_quote(char c) noexcept { return c == '"' || c == '\'' || c == '`'; }
bool is_of_key(char c) noexcept { return is_alphanumeric(c) || c == '_' || c == '-' || c == '.'; }

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](char c) { return lower(c); });
  return result;
}

bool all_digits(std::string_view text) noexcept { return std::all_of(text.begin(), text.end(), is_digit); }

template <std::size_t kSize>
bool contains(const std::array<std::string_view, kSize>& words, std::string_view word) noexcept {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// Whether the value of such a key is the name of a file where it begins with '/'.
bool names_a_file(std::string_view key, std::string_view value) {
  if (!value.starts_with('/')) return false;
  const std::string name = lower(key);
  constexpr std::array<std::string_view, 6> kEnds{"file", "path", "dir", "tab", "ring", "files"};
  const bool ends = std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) { return name.ends_with(end); });
  return ends || name.find("cred") != kNone;
}

/// Where the value that begins at `at` ends: at its closing quote, or before white space or the comma that ends an
/// option.
Span value_at(std::string_view text, std::size_t at) {
  if (at < text.size() && is_quote(text[at])) {
    const char quote = text[at];
    for (std::size_t end = at + 1; end < text.size(); ++end) {
      if (text[end] == '\\') {
        ++end;
      } else if (text[end] == quote) {
        return {at + 1, end};
      }
    }
    return {at + 1, text.size()};
  }
  // `\"`: the opening quote of a value in a text that is quoted itself.
  if (at + 1 < text.size() && text[at] == '\\' && is_quote(text[at + 1])) {
    const std::size_t end = text.find(text.substr(at, 2), at + 2);
    return {at + 2, end == kNone ? text.size() : end};
  }
  std::size_t end = at;
  for (; end < text.size(); ++end) {
    const char c = text[end];
    const bool doubled = c == ',' && end + 1 < text.size() && text[end + 1] == ',';
    if (doubled || (c == '\\' && end + 1 < text.size() && !is_quote(text[end + 1]))) {
      ++end;
    } else if (is_space(c) || c == ',' || is_quote(c)) {
      break;
    }
  }
  return {at, std::min(end, text.size())};
}

/// Finds the secrets in one text by its shape.
class Finder {
 public:
  explicit Finder(std::string_view text) : text_(text) {}

  Spans find() {
    find_keys();
    find_users();
    find_private_keys();
    find_tokens();
    find_sshpass();
    return std::move(spans_);
  }

 private:
  void add(std::size_t begin, std::size_t end) {
    if (begin < end) spans_.push_back({begin, end});
  }
  [[nodiscard]] std::size_t skip_spaces(std::size_t at) const noexcept {
    while (at < text_.size() && (text_[at] == ' ' || text_[at] == '\t')) ++at;
    return at;
  }

  void find_keys() {
    for (std::size_t at = 0; at < text_.size();) {
      if (!is_of_key(text_[at])) {
        ++at;
        continue;
      }
      std::size_t end = at;
      while (end < text_.size() && is_of_key(text_[end])) ++end;
      at = std::max(end, look_at_key(at, end));
    }
  }

  /// The key `[begin, end)` and what follows it. Answers where to continue.
  std::size_t look_at_key(std::size_t begin, std::size_t end) {
    const std::string_view key = text_.substr(begin, end - begin);
    const bool is_user = is_user_key(key);
    if (!is_user && !is_secret_key(key)) return end;
    const std::size_t value = skip_separator(key, end);
    if (value == kNone) return end;
    const Span span = is_header(key, end) ? rest_of_line(value) : value_at(text_, value);
    const std::string_view said = text_.substr(span.begin, span.end - span.begin);
    if (is_user) {
      if (const std::size_t mark = said.find_first_of("%:"); mark != kNone && !said.substr(mark).starts_with("://")) {
        add(span.begin + mark + 1, span.end);
      }
      return end;
    }
    if (names_a_file(key, said)) return end;
    add(span.begin, span.end);
    return span.end;
  }

  /// Whether it is that of a header of HTTP whose value has several words: "Authorization: Token x", "Cookie: a=x; b=y".
  [[nodiscard]] bool is_header(std::string_view key, std::size_t end) const {
    const std::string name = lower(key);
    return end < text_.size() && text_[end] == ':' && (name.ends_with("authorization") || name.ends_with("cookie"));
  }
  [[nodiscard]] Span rest_of_line(std::size_t at) const noexcept {
    return {at, std::min(text_.find_first_of("\r\n\"'", at), text_.size())};
  }

  /// Where the value of a key that ends at `end` begins; kNone when none follows.
  [[nodiscard]] std::size_t skip_separator(std::string_view key, std::size_t end) const {
    std::size_t at = end;
    if (at < text_.size() && text_[at] == '\\') ++at;
    if (at < text_.size() && is_quote(text_[at])) ++at;
    const std::size_t after = skip_spaces(at);
    const std::string_view rest = text_.substr(std::min(after, text_.size()));
    for (const std::string_view sign : {"=>", "->", "==", "="}) {
      if (rest.starts_with(sign)) return skip_spaces(after + sign.size());
    }
    if (rest.starts_with("is ")) return skip_spaces(after + 3);
    // A scheme of a URL is no key.
    if (rest.starts_with(":") && !rest.starts_with("://") && !is_user_key(key)) {
      const std::size_t value = skip_spaces(after + 1);
      // "Load key: No such file": a key in a sentence has a value that looks like one.
      const bool sentence = value > after + 1 && lower(key).ends_with("key") && key.find_first_of("-_") == kNone;
      const Span span = value_at(text_, value);
      const std::string_view said = text_.substr(span.begin, span.end - span.begin);
      return sentence && std::none_of(said.begin(), said.end(), is_digit) ? kNone : value;
    }
    if (key.starts_with("-") && after > end && after < text_.size()) return after;
    return kNone;
  }

  static bool is_user_key(std::string_view key) {
    while (key.starts_with('-')) key.remove_prefix(1);
    constexpr std::array<std::string_view, 4> kNames{"user", "username", "u", "login"};
    return contains(kNames, lower(key));
  }

  /// `user:password@host`, with a scheme before it and without.
  void find_users() {
    for (std::size_t at = 0; at < text_.size();) {
      const auto ends = [](char c) { return is_space(c) || is_quote(c) || c == '<' || c == '>'; };
      std::size_t end = at;
      while (end < text_.size() && !ends(text_[end])) ++end;
      look_at_word(at, end);
      at = end + 1;
    }
  }

  void look_at_word(std::size_t begin, std::size_t end) {
    std::size_t at = begin;
    std::size_t scheme = text_.substr(0, end).find("://", at);
    if (scheme == kNone) {
      // The values of a list each by itself.
      for (; at < end; ++at) {
        std::size_t stop = text_.substr(0, end).find_first_of(",=()", at);
        if (stop == kNone) stop = end;
        look_at_authority(at, stop, false);
        at = stop;
      }
      return;
    }
    while (scheme != kNone) {
      const std::size_t next = text_.substr(0, end).find("://", scheme + 3);
      look_at_authority(scheme + 3, next == kNone ? end : next, true);
      scheme = next;
    }
  }

  void look_at_authority(std::size_t begin, std::size_t end, bool has_scheme) {
    while (!has_scheme && begin < end && text_[begin] == '/') ++begin;
    const std::string_view part = text_.substr(begin, end - begin);
    if (part.starts_with('[')) return;
    const std::size_t colon = part.find_first_of(":@/");
    if (colon == kNone || part[colon] == '/') return;
    if (part[colon] == '@') {
      // A token in the place of the user.
      const std::string_view user = part.substr(0, colon);
      const bool is_token = has_scheme && user.size() >= 20 && std::any_of(user.begin(), user.end(), is_digit);
      if (is_token) add(begin, begin + colon);
      return;
    }
    const std::size_t path = part.find_first_of("/?#", colon);
    std::size_t at_sign = part.substr(0, path).rfind('@');
    const bool in_authority = at_sign != kNone && at_sign > colon;
    if (!in_authority) {
      // A password may have a '/'; a port and a path of a server are none.
      at_sign = part.rfind('@');
      if (at_sign == kNone || at_sign < colon) return;
      if (!has_scheme && path == colon + 1) return;
      if (path != kNone && all_digits(part.substr(colon + 1, path - colon - 1))) return;
    }
    add(begin + colon + 1, begin + at_sign);
  }

  void find_private_keys() {
    constexpr std::string_view kBegin = "-----BEGIN ";
    constexpr std::string_view kEnd = "-----END ";
    for (std::size_t at = text_.find(kBegin); at != kNone; at = text_.find(kBegin, at + 1)) {
      const std::size_t head = text_.find("-----", at + kBegin.size());
      if (head == kNone || text_.substr(at, head - at).find("PRIVATE") == kNone) continue;
      const std::size_t end = text_.find(kEnd, head);
      add(head + 5, end == kNone ? text_.size() : end);
    }
  }

  /// What is a secret by itself: a JSON web token, the tokens of well-known services, what follows "Bearer" and
  /// "Basic".
  void find_tokens() {
    constexpr std::array<std::string_view, 8> kBegins{"eyJ",    "ghp_",  "gho_",  "github_pat_",
                                                      "glpat-", "xoxb-", "xoxp-", "AKIA"};
    for (std::size_t at = 0; at < text_.size();) {
      const auto in_word = [](char c) { return is_of_key(c) || c == '+' || c == '/' || c == '='; };
      if (!in_word(text_[at])) {
        ++at;
        continue;
      }
      std::size_t end = at;
      while (end < text_.size() && in_word(text_[end])) ++end;
      const std::string_view word = text_.substr(at, end - at);
      const bool known = std::any_of(kBegins.begin(), kBegins.end(), [&](std::string_view begin) {
        return word.size() >= 16 && word.starts_with(begin);
      });
      if (known) add(at, end);
      const std::string scheme = word.size() > 6 ? "" : lower(word);
      if (scheme == "bearer" || scheme == "basic") {
        const Span span = value_at(text_, skip_spaces(end));
        const std::string_view said = text_.substr(span.begin, span.end - span.begin);
        const bool looks_so =
            said.size() >= 6 && (said.ends_with('=') || std::any_of(said.begin(), said.end(), is_digit));
        if (looks_so) add(span.begin, span.end);
      }
      at = end;
    }
  }

  /// `ssh_command=sshpass -pSECRET ssh`: a command in the midst of an option.
  void find_sshpass() {
    constexpr std::string_view kProgram = "sshpass";
    constexpr std::string_view kBetween = " \t\\\"'";
    for (std::size_t at = text_.find(kProgram); at != kNone; at = text_.find(kProgram, at)) {
      at = std::min(text_.find_first_not_of(kBetween, at + kProgram.size()), text_.size());
      if (!text_.substr(at).starts_with("-p")) continue;
      at = std::min(text_.find_first_not_of(kBetween, at + 2), text_.size());
      const std::size_t end = std::min(text_.find_first_of(" \t\\\"',", at), text_.size());
      add(at, end);
      at = end;
    }
  }

  const std::string_view text_;
  Spans spans_;
};

/// Whether there can be anything to find: most texts are names and paths.
bool may_hold_secrets(std::string_view text) noexcept {
  return text.find_first_of("=:@%- ") != kNone || text.size() >= 16;
}

/// `text`, and the same without its percent-encoding, of which there may be two.
Spans find_secrets(std::string_view text) {
  if (!may_hold_secrets(text)) return {};
  Spans spans = Finder(text).find();
  if (text.find('%') == kNone) return spans;
  Decoded decoded = decode_percent(text);
  for (int layer = 0; layer < 2 && decoded.changed; ++layer) {
    for (const Span& span : Finder(decoded.text).find()) {
      spans.push_back({decoded.origins[span.begin], decoded.origins[span.end]});
    }
    Decoded again = decode_percent(decoded.text);
    for (std::size_t& origin : again.origins) origin = decoded.origins[origin];
    decoded = std::move(again);
  }
  return spans;
}

std::string replace(std::string_view text, Spans spans) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  std::string result;
  std::size_t at = 0;
  for (const Span& span : spans) {
    if (span.end <= at) continue;
    // What overlaps is one.
    if (span.begin >= at && (span.begin > at || at == 0 || !result.ends_with(kMasked))) {
      result.append(text.substr(at, span.begin - at)).append(kMasked);
    }
    at = span.end;
  }
  return result.append(text.substr(std::min(at, text.size())));
}

struct Option {
  std::string_view name;
  std::string_view value;
};

/// The options of a list as in mount(8) -o: a comma in quotes, after a backslash, or doubled ends none.
std::vector<Option> split_options(std::string_view options) {
  std::vector<Option> result;
  std::size_t begin = 0;
  bool quoted = false;
  for (std::size_t at = 0; at <= options.size(); ++at) {
    const char c = at < options.size() ? options[at] : ',';
    if (at < options.size() && c == '"') quoted = !quoted;
    if (at + 1 < options.size() && (c == '\\' || (c == ',' && !quoted && options[at + 1] == ','))) {
      ++at;
      continue;
    }
    if (at < options.size() && (c != ',' || quoted)) continue;
    const std::string_view option = options.substr(begin, at - begin);
    const std::size_t equals = option.find('=');
    result.push_back({option.substr(0, equals), equals == kNone ? std::string_view() : option.substr(equals + 1)});
    begin = at + 1;
  }
  return result;
}

std::string_view unquoted(std::string_view value) noexcept {
  if (value.size() >= 2 && is_quote(value.front()) && value.back() == value.front())
    return value.substr(1, value.size() - 2);
  return value;
}

/// The options in an argument: of one that is an option itself, `--password=a,b`, the whole rest.
std::vector<Option> options_in(std::string_view argument) {
  const std::size_t equals = argument.find('=');
  if (equals == kNone) return {};
  if (!argument.starts_with('-') || argument.starts_with("-o")) return split_options(argument);
  return {{argument.substr(0, equals), argument.substr(equals + 1)}};
}

/// Programs to which `-pSECRET` is a password.
bool takes_short_password(const std::vector<std::string>& argv) {
  constexpr std::array<std::string_view, 4> kPrograms{"sshpass", "mysql", "mysqldump", "mariadb"};
  return std::any_of(argv.begin(), argv.end(), [&](const std::string& argument) {
    return contains(kPrograms, std::string_view(argument).substr(argument.rfind('/') + 1));
  });
}

bool is_word(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_of_key);
}

/// Where the value of a header of HTTP begins whose name makes it a secret; kNone: `text` is none.
std::size_t find_header_value(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == kNone || !is_word(text.substr(0, colon)) || !is_secret_key(text.substr(0, colon))) return kNone;
  return colon + 1;
}

/// Secrets of `argument`, which comes after `before`.
Spans find_in_argument(std::string_view before, std::string_view argument, bool short_password) {
  const Span whole{0, argument.size()};
  if (is_word(before) && is_secret_key(before) && !names_a_file(before, argument)) return {whole};
  if (before == "-p" && !all_digits(argument)) return {whole};
  if (short_password && argument.starts_with("-p") && argument.size() > 2) return {{2, argument.size()}};
  const bool is_user = before == "-u" || before == "-U" || before == "--user" || before == "--username" ||
                       (argument.starts_with("-u") && !argument.starts_with("-u="));
  if (const std::size_t mark = argument.find_first_of("%:"); is_user && mark != kNone)
    return {{mark + 1, argument.size()}};
  // After "-H", or with it in one argument.
  const bool has_option = argument.starts_with("-H") || argument.starts_with("--header=");
  const std::size_t header = !has_option ? 0 : argument.starts_with("-H") ? 2 : argument.find('=') + 1;
  if (const std::size_t value = find_header_value(argument.substr(header));
      value != kNone && (has_option || before == "-H" || before == "--header")) {
    return {{header + value, argument.size()}};
  }
  Spans spans = find_secrets(argument);
  for (const Option& option : options_in(argument)) {
    if (!is_word(option.name) || !is_secret_key(option.name) || names_a_file(option.name, unquoted(option.value)))
      continue;
    const auto begin = static_cast<std::size_t>(option.value.data() - argument.data());
    spans.push_back({begin, begin + option.value.size()});
  }
  return spans;
}

template <typename Use>
void each_argument(const std::vector<std::string>& argv, Use use) {
  const bool short_password = takes_short_password(argv);
  for (std::size_t i = 0; i < argv.size(); ++i) {
    // The first one is the program, whatever it is called.
    const std::string_view before = i < 2 ? std::string_view() : std::string_view(argv[i - 1]);
    use(argv[i], find_in_argument(before, argv[i], short_password));
  }
}

/// What a secret is made of where it has several words, as the value of a header has.
std::vector<std::string_view> long_words(std::string_view value) {
  constexpr std::size_t kLong = 8;
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at < value.size();) {
    const std::size_t end = std::min(value.find_first_of(" \t;,=\"", at), value.size());
    if (end - at >= kLong) words.push_back(value.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

/// Of a line of several words, `machine HOST login USER password SECRET` or `URL USER SECRET`.
std::vector<std::string_view> secret_words(std::string_view line) {
  std::vector<std::string_view> words;
  std::string_view before;
  for (const std::string_view word : split(line, ' ')) {
    if (word.empty()) continue;
    if (is_word(before) && is_secret_key(before)) words.push_back(word);
    before = word;
  }
  if (before.size() < line.size()) words.push_back(before);
  return words;
}

/// Values that mean nothing, and would be masked wherever they stand.
bool is_common(std::string_view value) {
  constexpr std::array<std::string_view, 16> kWords{"true", "false",  "yes",  "no",     "none", "on",
                                                    "off",  "auto",   "null", "root",   "sys",  "default",
                                                    "file", "prompt", "user", "keyring"};
  return value.size() < 3 || contains(kWords, lower(value)) || value.find_first_not_of('*') == kNone;
}

}  // namespace

bool is_secret_key(std::string_view key) noexcept {
  // Longer than any key is a name or a path.
  if (key.size() < 2 || key.size() > 128) return false;
  std::array<char, 128> buffer{};
  std::transform(key.begin(), key.end(), buffer.begin(), [](char c) { return lower(c); });
  const std::string_view name(buffer.data(), key.size());
  constexpr std::array<std::string_view, 9> kParts{"pass",       "pwd",    "secret", "token", "key",
                                                   "credential", "cookie", "bearer", "netrc"};
  constexpr std::array<std::string_view, 10> kSegments{"pw",    "pin", "sig", "signature", "cred",
                                                       "creds", "otp", "sas", "psk",       "authorization"};
  constexpr std::array<std::string_view, 9> kHarmless{"passive",   "passthrough", "bypass", "passno",      "keyboard",
                                                      "publickey", "keepalive",   "passed", "passphrase.c"};
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find_first_of("-_.", begin), name.size());
    const std::string_view segment = name.substr(begin, end - begin);
    if (contains(kSegments, segment)) return true;
    const bool holds = std::any_of(kParts.begin(), kParts.end(),
                                   [segment](std::string_view part) { return segment.find(part) != kNone; });
    if (holds && !contains(kHarmless, segment)) return true;
    begin = end + 1;
  }
  return false;
}

std::string mask_secrets(std::string_view text) { return replace(text, find_secrets(text)); }

std::vector<std::string> mask_secrets(const std::vector<std::string>& argv) {
  std::vector<std::string> masked;
  masked.reserve(argv.size());
  each_argument(
      argv, [&](const std::string& argument, Spans spans) { masked.push_back(replace(argument, std::move(spans))); });
  return masked;
}

void Secrets::add(std::string_view value) {
  while (!value.empty() && is_space(value.front())) value.remove_prefix(1);
  for (std::string& form : forms_of_secret(unquoted(value))) add_one(std::move(form));
}

void Secrets::add_one(std::string value) {
  if (is_common(value)) return;
  value = lower(value);
  if (std::find(values_.begin(), values_.end(), value) == values_.end()) values_.push_back(std::move(value));
}

void Secrets::add_options(std::string_view options) {
  for (const Option& option : split_options(options)) {
    if (is_secret_key(option.name) && !names_a_file(option.name, unquoted(option.value))) add(option.value);
  }
  for (const Span& span : find_secrets(options)) add(options.substr(span.begin, span.end - span.begin));
}

void Secrets::add_source(std::string_view source) {
  for (const Span& span : find_secrets(source)) add(source.substr(span.begin, span.end - span.begin));
}

void Secrets::add_command(const std::vector<std::string>& argv) {
  each_argument(argv, [&](const std::string& argument, const Spans& spans) {
    for (const Span& span : spans) {
      const std::string_view value = std::string_view(argument).substr(span.begin, span.end - span.begin);
      add(value);
      for (const std::string_view word : long_words(value)) add(word);
    }
    if (argument.find(',') != std::string::npos) add_options(argument);
  });
}

void Secrets::add_variable(std::string_view name, std::string_view value) {
  if (is_secret_key(name) ? !names_a_file(name, value) : !value.starts_with('/') && !all_digits(value)) add(value);
  add_source(value);
}

void Secrets::add_file(std::string_view content) {
  constexpr std::array<std::string_view, 8> kPublic{"user",      "username", "domain", "dom",
                                                    "workgroup", "type",     "host",   "url"};
  add_source(content);
  for (std::string_view line : split(content, '\n')) {
    while (!line.empty() && is_space(line.back())) line.remove_suffix(1);
    while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
    if (line.empty() || line.front() == '#' || line.front() == '[') continue;
    const std::size_t sign = line.find_first_of("=:");
    const std::string_view key = line.substr(0, sign == kNone ? 0 : sign);
    std::string name = lower(key);
    while (!name.empty() && is_space(name.back())) name.pop_back();
    if (contains(kPublic, name)) continue;
    add(line);
    for (const std::string_view word : secret_words(line)) add(word);
    if (sign == kNone) continue;
    std::string_view value = line.substr(sign + 1);
    while (!value.empty() && is_space(value.front())) value.remove_prefix(1);
    add(value);
    // `bucket:key:secret`
    if (const std::size_t last = line.rfind(':'); last != kNone) add(line.substr(last + 1));
  }
}

std::string Secrets::mask(std::string_view text) const {
  Spans spans = find_secrets(text);
  const std::string folded = values_.empty() ? std::string() : lower(text);
  for (const std::string& value : values_) {
    for (std::size_t at = folded.find(value); at != std::string::npos; at = folded.find(value, at + 1)) {
      const std::size_t end = at + value.size();
      // A short one is a part of many words.
      constexpr std::size_t kShort = 6;
      const bool stands_alone =
          (at == 0 || !is_alphanumeric(folded[at - 1])) && (end == folded.size() || !is_alphanumeric(folded[end]));
      if (value.size() >= kShort || stands_alone) spans.push_back({at, end});
    }
  }
  return replace(text, std::move(spans));
}

std::vector<std::string> Secrets::mask(const std::vector<std::string>& argv) const {
  std::vector<std::string> masked = mask_secrets(argv);
  for (std::string& argument : masked) argument = mask(argument);
  return masked;
}

std::vector<std::string> secret_files_in(std::string_view options) {
  std::vector<std::string> files;
  for (const Option& option : split_options(options)) {
    const std::string_view value = unquoted(option.value);
    if (is_secret_key(option.name) && names_a_file(option.name, value)) files.emplace_back(value);
  }
  return files;
}

std::vector<std::string> secret_files_in(const std::vector<std::string>& argv) {
  std::vector<std::string> files;
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string_view argument = argv[i];
    if (i > 0 && is_word(argv[i - 1]) && is_secret_key(argv[i - 1]) && names_a_file(argv[i - 1], argument)) {
      files.emplace_back(argument);
    }
    for (std::string& file : secret_files_in(argument)) files.push_back(std::move(file));
  }
  return files;
}

}  // namespace berth
