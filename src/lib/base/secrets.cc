#include "src/lib/base/secrets.h"

#include <algorithm>
#include <array>
#include <utility>

#include "src/lib/base/ascii.h"
#include "src/lib/base/secret_forms.h"
#include "src/lib/base/secret_shapes.h"
#include "src/lib/base/text.h"

namespace berth {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

std::string replace(std::string_view text, TextSpans spans) {
  std::sort(spans.begin(), spans.end(), [](const TextSpan& a, const TextSpan& b) { return a.begin < b.begin; });
  std::string result;
  std::size_t at = 0;
  for (const TextSpan& span : spans) {
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
TextSpans find_in_argument(std::string_view before, std::string_view argument, bool short_password) {
  const TextSpan whole{0, argument.size()};
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
  TextSpans spans = find_secrets(argument);
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
  return value.size() < 3 || contains(kWords, to_lower(value)) || value.find_first_not_of('*') == kNone;
}

}  // namespace

std::string mask_secrets(std::string_view text) { return replace(text, find_secrets(text)); }

std::vector<std::string> mask_secrets(const std::vector<std::string>& argv) {
  std::vector<std::string> masked;
  masked.reserve(argv.size());
  each_argument(argv, [&](const std::string& argument, TextSpans spans) {
    masked.push_back(replace(argument, std::move(spans)));
  });
  return masked;
}

void Secrets::add(std::string_view value) {
  while (!value.empty() && is_space(value.front())) value.remove_prefix(1);
  for (std::string& form : forms_of_secret(unquoted(value))) add_one(std::move(form));
}

void Secrets::add_one(std::string value) {
  if (is_common(value)) return;
  value = to_lower(value);
  if (std::find(values_.begin(), values_.end(), value) == values_.end()) values_.push_back(std::move(value));
}

void Secrets::add_options(std::string_view options) {
  for (const Option& option : split_options(options)) {
    if (is_secret_key(option.name) && !names_a_file(option.name, unquoted(option.value))) add(option.value);
  }
  for (const TextSpan& span : find_secrets(options)) add(options.substr(span.begin, span.end - span.begin));
}

void Secrets::add_source(std::string_view source) {
  for (const TextSpan& span : find_secrets(source)) add(source.substr(span.begin, span.end - span.begin));
}

void Secrets::add_command(const std::vector<std::string>& argv) {
  each_argument(argv, [&](const std::string& argument, const TextSpans& spans) {
    for (const TextSpan& span : spans) {
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
    line = trim(line);
    if (line.empty() || line.front() == '#' || line.front() == '[') continue;
    const std::size_t sign = line.find_first_of("=:");
    const std::string_view key = line.substr(0, sign == kNone ? 0 : sign);
    if (contains(kPublic, to_lower(trim(key)))) continue;
    add(line);
    for (const std::string_view word : secret_words(line)) add(word);
    if (sign == kNone) continue;
    add(line.substr(sign + 1));
    // `bucket:key:secret`
    if (const std::size_t last = line.rfind(':'); last != kNone) add(line.substr(last + 1));
  }
}

std::string Secrets::mask(std::string_view text) const {
  TextSpans spans = find_secrets(text);
  const std::string folded = values_.empty() ? std::string() : to_lower(text);
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
