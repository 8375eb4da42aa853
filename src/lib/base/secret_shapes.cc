#include "src/lib/base/secret_shapes.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "src/lib/base/secret_forms.h"
#include "src/lib/base/secrets.h"

namespace berth {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

/// Where the value that begins at `at` ends: at its closing quote, or before white space or the comma that ends an
/// option.
TextSpan value_at(std::string_view text, std::size_t at) {
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

  TextSpans find() {
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
    const TextSpan span = is_header(key, end) ? rest_of_line(value) : value_at(text_, value);
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

  /// Whether it is that of a header of HTTP whose value has several words: "Authorization: Token x", "Cookie: a=x;
  /// b=y".
  [[nodiscard]] bool is_header(std::string_view key, std::size_t end) const {
    const std::string name = to_lower(key);
    return end < text_.size() && text_[end] == ':' && (name.ends_with("authorization") || name.ends_with("cookie"));
  }
  [[nodiscard]] TextSpan rest_of_line(std::size_t at) const noexcept {
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
      const bool sentence = value > after + 1 && to_lower(key).ends_with("key") && key.find_first_of("-_") == kNone;
      const TextSpan span = value_at(text_, value);
      const std::string_view said = text_.substr(span.begin, span.end - span.begin);
      return sentence && std::none_of(said.begin(), said.end(), is_digit) ? kNone : value;
    }
    if (key.starts_with("-") && after > end && after < text_.size()) return after;
    return kNone;
  }

  static bool is_user_key(std::string_view key) {
    while (key.starts_with('-')) key.remove_prefix(1);
    constexpr std::array<std::string_view, 4> kNames{"user", "username", "u", "login"};
    return contains(kNames, to_lower(key));
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
      const std::string scheme = word.size() > 6 ? "" : to_lower(word);
      if (scheme == "bearer" || scheme == "basic") {
        const TextSpan span = value_at(text_, skip_spaces(end));
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
  TextSpans spans_;
};

/// Whether there can be anything to find: most texts are names and paths.
bool may_hold_secrets(std::string_view text) noexcept {
  return text.find_first_of("=:@%- ") != kNone || text.size() >= 16;
}

}  // namespace

bool names_a_file(std::string_view key, std::string_view value) {
  if (!value.starts_with('/')) return false;
  const std::string name = to_lower(key);
  constexpr std::array<std::string_view, 6> kEnds{"file", "path", "dir", "tab", "ring", "files"};
  const bool ends = std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) { return name.ends_with(end); });
  return ends || name.find("cred") != kNone;
}

TextSpans find_secrets(std::string_view text) {
  if (!may_hold_secrets(text)) return {};
  TextSpans spans = Finder(text).find();
  if (text.find('%') == kNone) return spans;
  Decoded decoded = decode_percent(text);
  // The encoding may be encoded.
  for (int layer = 0; layer < 2 && decoded.changed; ++layer) {
    for (const TextSpan& span : Finder(decoded.text).find()) {
      spans.push_back({decoded.origins[span.begin], decoded.origins[span.end]});
    }
    Decoded again = decode_percent(decoded.text);
    for (std::size_t& origin : again.origins) origin = decoded.origins[origin];
    decoded = std::move(again);
  }
  return spans;
}

bool is_secret_key(std::string_view key) noexcept {
  // Longer than any key is a name or a path.
  if (key.size() < 2 || key.size() > 128) return false;
  std::array<char, 128> buffer{};
  std::transform(key.begin(), key.end(), buffer.begin(), [](char c) { return to_lower(c); });
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

}  // namespace berth
