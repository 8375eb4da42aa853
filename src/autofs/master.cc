#include "src/autofs/master.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "src/autofs/characters.h"
#include "src/lib/base/text.h"

namespace berth::autofs {
namespace {

/// What can stand before the name of a map.
constexpr std::array<std::string_view, 13> kMapTypes{"file",    "program", "exec", "dir",   "multi",  "yp",      "nis",
                                                     "nisplus", "sss",     "ldap", "ldaps", "hesiod", "userhome"};
constexpr std::array<std::string_view, 3> kFormats{"sun", "amd", "hesiod"};

/// Options of automount's own, which are not for mount(8).
constexpr std::array<std::string_view, 15> kOwnOptions{"symlink",
                                                       "nobind",
                                                       "strictexpire",
                                                       "slave",
                                                       "private",
                                                       "shared",
                                                       "strict",
                                                       "-v",
                                                       "--verbose",
                                                       "-d",
                                                       "--debug",
                                                       "-w",
                                                       "--use-weight-only",
                                                       "-r",
                                                       "--random-multimount-selection"};

template <typename Names>
bool contains(const Names& names, std::string_view name) noexcept {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// The words of the right side of an entry of the master map: separated by blanks, and options by commas as well.
class Words {
 public:
  explicit Words(std::string_view text) : rest_(skip_spaces(text)) {}

  [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }
  [[nodiscard]] std::string_view rest() const noexcept { return rest_; }
  [[nodiscard]] bool starts_with(std::string_view text) const noexcept { return rest_.starts_with(text); }
  /// The next word up to a blank, without backslashes.
  std::string take_name();
  /// The next word up to a blank or a comma, as it is.
  std::string_view take_option();
  /// Whether a comma was taken; blanks beside it are.
  bool take_comma();
  void take(std::size_t size) { rest_ = skip_spaces(rest_.substr(size)); }

 private:
  std::string_view rest_;
};

std::string Words::take_name() {
  std::string name;
  std::size_t at = 0;
  for (; at < rest_.size() && !is_space(rest_[at]); ++at) {
    if (rest_[at] == '\\' && at + 1 < rest_.size()) ++at;
    name += rest_[at];
  }
  take(at);
  return name;
}

std::string_view Words::take_option() {
  bool quoted = false;
  const auto end = std::find_if(rest_.begin(), rest_.end(), [&quoted](char c) {
    if (c == '"') quoted = !quoted;
    return !quoted && (is_space(c) || c == ',');
  });
  const std::string_view option = rest_.substr(0, static_cast<std::size_t>(end - rest_.begin()));
  take(option.size());
  return option;
}

bool Words::take_comma() {
  if (!rest_.starts_with(',')) return false;
  take(1);
  return true;
}

/// Takes "file,sun" off "file,sun:/etc/auto.home", with the colon or the blanks behind it, if that is there.
MapSource take_type(Words& words) {
  const std::string_view text = words.rest();
  const std::size_t end = std::min(text.find_first_of(" \t:"), text.size());
  const std::string_view word = text.substr(0, end);
  const std::size_t comma = std::min(word.find(','), word.size());
  MapSource source{std::string(word.substr(0, comma)), std::string(word.substr(std::min(comma + 1, word.size()))), ""};
  const bool is_type = end < text.size() && contains(kMapTypes, source.type) &&
                       (source.format.empty() || contains(kFormats, source.format));
  if (!is_type) return {};
  words.take(end);
  if (words.starts_with(":")) words.take(1);
  if (source.type == "exec") source.type = "program";
  return source;
}

/// A number of seconds behind "--timeout", as "=60", " 60" or "60".
Result<std::chrono::seconds> read_seconds(std::string_view text, std::string_view option) {
  std::uint32_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return fail(EINVAL, quote(option) + " wants a number of seconds, and not " + quote(text));
  }
  return std::chrono::seconds(seconds);
}

/// Whether all are characters of names, or of `more`.
bool is_made_of(std::string_view text, std::string_view more) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [more](char c) { return is_name(c) || more.find(c) != std::string_view::npos; });
}

/// Whether automount takes `text` for the name of an option or of a variable, `more` in it.
bool is_name_with(std::string_view text, std::string_view more) noexcept {
  return is_made_of(text, more) && !is_digit(text.front()) && is_name(text.front());
}

std::string_view without_quotes(std::string_view value) noexcept {
  const bool quoted = value.size() > 2 && value.front() == '"' && value.back() == '"';
  return quoted ? value.substr(1, value.size() - 2) : value;
}

/// Whether automount takes `text` for the value of one, in quotes or not; `more`: what is allowed without them.
bool is_value(std::string_view text, std::string_view more) noexcept {
  const std::string_view bare = without_quotes(text);
  return is_made_of(bare, bare.size() < text.size() ? "-.:" : more);
}

/// Whether automount takes `text` for an option of mount(8): NAME or NAME=VALUE, of few characters.
bool is_mount_option(std::string_view text) noexcept {
  const std::size_t equals = std::min(text.find('='), text.size());
  return is_name_with(text.substr(0, equals), "-") &&
         (equals == text.size() || is_value(text.substr(equals + 1), "-.:"));
}

/// Reads what stands behind the name of a map.
class OptionReader {
 public:
  OptionReader(Words& words, MapOptions& options) : words_(words), options_(options) {}

  /// Up to the end, or to "--", which separates maps.
  Result<> all();

 private:
  Result<> one(std::string_view text);
  /// The value of "-t60", "-t 60", "-t=60".
  Result<std::string_view> value_of(std::string_view text, std::string_view option);
  Result<> define(std::string_view text);
  Result<bool> timeout(std::string_view text);

  Words& words_;
  MapOptions& options_;
};

Result<std::string_view> OptionReader::value_of(std::string_view text, std::string_view option) {
  text.remove_prefix(option.size());
  if (text.empty()) text = words_.take_option();
  if (text == "=") return words_.take_option();
  if (text.starts_with('=')) text.remove_prefix(1);
  if (text.empty()) return fail(EINVAL, quote(option) + " wants a value");
  return text;
}

Result<> OptionReader::define(std::string_view text) {
  text = TRY(value_of(text, "-D"));
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return fail(EINVAL, quote(text) + " is not VARIABLE=VALUE");
  const std::string_view name = text.substr(0, equals);
  const std::string_view value = text.substr(equals + 1);
  if (!is_name_with(name, "-.")) return fail(EINVAL, quote(name) + " is no name of a variable");
  if (!is_value(value, "-.")) return fail(EINVAL, quote(value) + " is no value of a variable in a master map");
  options_.variables.insert_or_assign(std::string(name), std::string(without_quotes(value)));
  return {};
}

/// Whether it was an option with a number of seconds.
Result<bool> OptionReader::timeout(std::string_view text) {
  using Member = std::optional<std::chrono::seconds> MapOptions::*;
  constexpr std::array<std::pair<std::string_view, Member>, 4> kTimeouts{
      {{"--timeout", &MapOptions::timeout},
       {"-t", &MapOptions::timeout},
       {"--negative-timeout", &MapOptions::negative_timeout},
       {"-n", &MapOptions::negative_timeout}}};
  for (const auto& [option, member] : kTimeouts) {
    if (!text.starts_with(option)) continue;
    const char next = text.size() > option.size() ? text[option.size()] : '=';
    if (next != '=' && !is_digit(next)) continue;
    const std::string_view value = TRY(value_of(text, option));
    options_.*member = TRY(read_seconds(value, option));
    return true;
  }
  return false;
}

Result<> OptionReader::one(std::string_view text) {
  const std::string_view bare = text.starts_with('-') ? text.substr(1) : text;
  if (text.starts_with("-D")) return define(text);
  if (TRY(timeout(text))) return {};
  if (text.starts_with("--mode")) {
    options_.own.push_back("--mode " + std::string(TRY(value_of(text, "--mode"))));
  } else if (text == "--slashify-colons" || text == "--no-slashify-colons") {
    options_.slashify_colons = text == "--slashify-colons";
  } else if (bare == "browse" || bare == "nobrowse" || text == "--ghost" || text == "-g") {
    options_.browse = bare != "nobrowse";
  } else if (contains(kOwnOptions, text) || contains(kOwnOptions, bare)) {
    options_.own.emplace_back(text);
  } else if (is_mount_option(bare)) {
    std::string option(bare);
    std::erase(option, '"');
    options_.mount_options.push_back(std::move(option));
  } else {
    return fail(EINVAL, quote(text) + " is no option that automount takes in a master map");
  }
  return {};
}

Result<> OptionReader::all() {
  while (!words_.empty() && !words_.starts_with("-- ") && !words_.starts_with("--\t")) {
    const std::string_view option = words_.take_option();
    TRY_VOID(one(option));
    if (words_.take_comma() && words_.empty()) return fail(EINVAL, "nothing follows a comma");
  }
  return {};
}

/// One map with its options; of several only the options of the last count, as automount has it.
Result<> read_source(Words& words, MasterEntry& entry) {
  MapSource source;
  if (words.starts_with("-")) {
    const std::string name = words.take_name();
    if (name != "-hosts" && name != "-null") return fail(EINVAL, quote(name) + " is no built-in map");
    source.type = name.substr(1);
  } else {
    source = take_type(words);
    source.name = words.take_name();
    if (source.type == "dir") return fail(EINVAL, "\"dir:\" is for an include, \"+dir:" + source.name + "\"");
    if (source.name.empty()) return fail(EINVAL, "no map is named");
    if (source.name.find('"') != std::string::npos) {
      return fail(EINVAL, "quotes stand in the name of a map; a backslash before a blank keeps it");
    }
    if (source.name.starts_with(':')) return fail(EINVAL, quote(source.name) + " is no name of a map");
  }
  entry.sources.push_back(std::move(source));
  return OptionReader(words, entry.options).all();
}

Result<std::string> read_mount_point(std::string_view key) {
  if (!key.starts_with('/')) return fail(EINVAL, quote(key) + " is not an absolute path");
  std::string path;
  for (const std::string_view part : split(key, '/')) {
    if (part == "." || part == "..") return fail(EINVAL, "the mount point " + quote(key) + " holds " + quote(part));
    if (!part.empty()) path.append("/").append(part);
  }
  if (path.empty()) return fail(EINVAL, "a map cannot be mounted at \"/\"");
  return path;
}

}  // namespace

Result<MasterEntry> parse_master_entry(const Line& line) {
  MasterEntry entry;
  entry.mount_point = TRY(read_mount_point(line.key));
  Words words(line.value);
  const MapSource multi = take_type(words);
  if (multi.type != "multi") words = Words(line.value);
  do {
    TRY_VOID(read_source(words, entry));
    if (words.empty()) return entry;
    if (multi.type != "multi") return fail(EINVAL, "\"--\" separates maps only after \"multi\"");
    words.take(2);
  } while (true);
}

Result<MapSource> parse_include(const Line& line) {
  Words words(line.key);
  MapSource source = take_type(words);
  source.name = words.take_name();
  if (source.name.empty()) return fail(EINVAL, "the include names no map");
  if (source.type == "dir" && !source.name.starts_with('/')) {
    return fail(EINVAL, "\"+dir:\" wants an absolute path, and not " + quote(source.name));
  }
  return source;
}

std::string unsupported_reason(const MapSource& source) {
  if (source.format == "amd") return "maps in amd's format are not read";
  if (source.format == "hesiod" || source.type == "hesiod") return "hesiod maps are not read";
  if (source.type == "yp" || source.type == "nis")
    return "maps in NIS are not read; ypcat -k " + source.name + " lists one";
  if (source.type == "nisplus") return "maps in NIS+ are not read";
  if (source.type == "ldap" || source.type == "ldaps") return "maps in LDAP are not read";
  if (source.type == "sss") return "maps of sssd are not read";
  if (source.type == "userhome") return "home directories of the user database are not read";
  return "";
}

}  // namespace berth::autofs
