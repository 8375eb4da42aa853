#include "src/lib/base/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <limits>

#include "src/lib/base/text.h"

namespace berth {
namespace {

/// A word of mount(8) that is an attribute of the mount: bits to set and to clear.
struct AttributeWord {
  std::string_view word;
  std::uint64_t set;
  std::uint64_t clear;
};

constexpr std::array kAttributeWords{
    AttributeWord{"nosuid", MOUNT_ATTR_NOSUID, 0},
    AttributeWord{"suid", 0, MOUNT_ATTR_NOSUID},
    AttributeWord{"nodev", MOUNT_ATTR_NODEV, 0},
    AttributeWord{"dev", 0, MOUNT_ATTR_NODEV},
    AttributeWord{"noexec", MOUNT_ATTR_NOEXEC, 0},
    AttributeWord{"exec", 0, MOUNT_ATTR_NOEXEC},
    AttributeWord{"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    AttributeWord{"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
    AttributeWord{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    AttributeWord{"diratime", 0, MOUNT_ATTR_NODIRATIME},
    // How access times are kept is one field, not bits (mount_setattr(2)).
    // "user" words mean this unless the words after them say otherwise (libmount, MS_SECURE and MS_OWNERSECURE).
    AttributeWord{"user", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0},
    AttributeWord{"users", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0},
    AttributeWord{"owner", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0},
    AttributeWord{"group", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0},
    AttributeWord{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    AttributeWord{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    AttributeWord{"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    AttributeWord{"atime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    AttributeWord{"norelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    AttributeWord{"nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
};

// mount(8), "Filesystem-independent mount options" that do not concern the mount itself: which users may mount it,
// when, and what other programs show of it.
constexpr std::array<std::string_view, 17> kHarmlessWords{
    "defaults", "_netdev", "nofail",  "auto",    "noauto", "nouser",     "nousers",       "noowner",        "nogroup",
    "silent",   "loud",    "comment", "uhelper", "helper", "pamconsole", "X-mount.mkdir", "X-fstrim.notrim"};

/// A word that asks for what is not done here, and what to do instead.
struct RefusedWord {
  std::string_view begin;
  std::string_view reason;
};
constexpr std::string_view kOrder = "systemd alone orders mounts; let berth.service wait for it (systemd.unit(5))";
constexpr std::string_view kMakes = "a share changes no file system; run the program that does before";
constexpr std::string_view kExisting = "it changes a mount that exists; a share makes its own";
constexpr std::string_view kPropagation = "the mount of a share is private, and seen through the namespace alone";
constexpr std::array kRefusedWords{
    RefusedWord{"x-systemd.idle-timeout", "use the key idle_timeout of the share"},
    RefusedWord{"x-systemd.mount-timeout", "use the key mount_timeout of the share"},
    RefusedWord{"x-systemd.device-timeout", "use the key mount_timeout of the share"},
    RefusedWord{"x-systemd.makefs", kMakes},
    RefusedWord{"x-systemd.growfs", kMakes},
    RefusedWord{"x-systemd.", kOrder},
    RefusedWord{"X-mount.owner", "change the owner on the file system itself"},
    RefusedWord{"X-mount.group", "change the group on the file system itself"},
    RefusedWord{"X-mount.mode", "change the mode on the file system itself"},
    RefusedWord{"X-mount.idmap", "idmapped mounts are not made here"},
    RefusedWord{"X-", "it is not known here, and what it asks for would not be done"},
    RefusedWord{"remount", kExisting},
    RefusedWord{"move", kExisting},
    RefusedWord{"private", kPropagation},
    RefusedWord{"rprivate", kPropagation},
    RefusedWord{"shared", kPropagation},
    RefusedWord{"rshared", kPropagation},
    RefusedWord{"slave", kPropagation},
    RefusedWord{"rslave", kPropagation},
    RefusedWord{"unbindable", kPropagation},
    RefusedWord{"runbindable", kPropagation},
};

/// Whether `key` does not concern the mount. Errors: EINVAL for what is not done here.
Result<bool> says_nothing(std::string_view key) {
  if (key == "x-systemd.automount") return true;  // what a share is
  for (const std::string_view word : kHarmlessWords) {
    if (key == word) return true;
  }
  for (const RefusedWord& word : kRefusedWords) {
    const bool is_it =
        word.begin.ends_with('.') || word.begin.ends_with('-') ? key.starts_with(word.begin) : key == word.begin;
    if (is_it) return fail(EINVAL, "option " + quote(key) + ": " + std::string(word.reason));
  }
  return key.starts_with("x-");  // mount(8): comments, for other programs
}

/// The parts between commas. A comma inside double quotes does not separate (mount(8), SELinux contexts), nor does one
/// after a backslash, which stays for the file system to take away (overlay, since Linux 2.6; libmount before 2.39
/// splits there). Errors: EINVAL where a quote or a backslash would reach into what is appended.
Result<std::vector<std::string>> split_options(std::string_view options) {
  std::vector<std::string> parts(1);
  bool quoted = false;
  bool escaped = false;
  for (const char c : options) {
    if (c == '"' && !escaped) quoted = !quoted;
    if (c == ',' && !quoted && !escaped) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
    escaped = c == '\\' && !escaped;
  }
  if (quoted) return fail(EINVAL, "the mount options have a quote that does not end");
  if (escaped) return fail(EINVAL, "the mount options end with a backslash");
  return parts;
}

std::string without_quotes(std::string value) {
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"') return value.substr(1, value.size() - 2);
  return value;
}

Result<std::uint64_t> parse_size(std::string_view key, std::string_view text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, number);
  std::string_view suffix(rest, static_cast<std::size_t>(end - rest));
  if (suffix.ends_with("iB")) suffix.remove_suffix(2);
  unsigned shift = 0;
  if (suffix == "K" || suffix == "k") shift = 10;
  if (suffix == "M" || suffix == "m") shift = 20;
  if (suffix == "G" || suffix == "g") shift = 30;
  if (suffix == "T" || suffix == "t") shift = 40;
  const bool known = suffix.empty() || shift != 0;
  if (code != std::errc() || !known || number > (std::numeric_limits<std::uint64_t>::max() >> shift)) {
    return fail(EINVAL, "option " + quote(key) + " wants a size such as 1048576, 512K, 10M or 2G, not " + quote(text));
  }
  return number << shift;
}

bool apply_attribute(std::string_view word, MountOptions& into) {
  for (const AttributeWord& known : kAttributeWords) {
    if (known.word != word) continue;
    // The last word wins, as with mount(8).
    into.attributes = (into.attributes & ~known.clear) | known.set;
    into.attributes_clear = (into.attributes_clear & ~known.set) | known.clear;
    return true;
  }
  return false;
}

/// Words that mount(8) knows as words alone, or with a value whose meaning is not known here ("ro=recursive", since
/// util-linux 2.39).
bool takes_no_value(std::string_view word, std::string_view value) {
  if (word == "ro" || word == "rw" || word == "bind" || word == "rbind") return true;
  return value == "recursive" && std::any_of(kAttributeWords.begin(), kAttributeWords.end(),
                                             [&](const AttributeWord& known) { return known.word == word; });
}

/// The words that mean something to the sorter itself. False when `word` is none of them.
Result<bool> apply_own_word(std::string_view word, const std::optional<std::string>& value, MountOptions& into) {
  if (value && takes_no_value(word, *value)) return fail(EINVAL, "option " + quote(word) + " takes no value here");
  if (word == "ro" || word == "rw") {
    into.read_only = word == "ro";
    const std::uint64_t bit = MOUNT_ATTR_RDONLY;
    into.attributes = into.read_only ? into.attributes | bit : into.attributes & ~bit;
    into.attributes_clear = into.read_only ? into.attributes_clear & ~bit : into.attributes_clear | bit;
  } else if (word == "bind") {
    into.bind = true;
    into.recursive_bind = false;
  } else if (word == "rbind") {
    into.bind = into.recursive_bind = true;
  } else if (word == "loop") {
    if (value) return fail(EINVAL, "option \"loop\" takes no device here: a free one is found");
    into.loop = true;
  } else if (word == "offset" && value) {
    into.loop_offset = TRY(parse_size(word, *value));
  } else if (word == "sizelimit" && value) {
    into.loop_size_limit = TRY(parse_size(word, *value));
  } else if (word == "X-mount.subdir") {
    if (!value || value->empty()) return fail(EINVAL, "option \"X-mount.subdir\" wants a directory");
    into.subdirectory = value->substr(std::min(value->find_first_not_of('/'), value->size()));
  } else {
    return false;
  }
  return true;
}

/// Errors: EINVAL for what no option is called: a blank where a comma alone separates, or what the argv of mount(8)
/// would hold.
Result<> check_key(std::string_view key, std::string_view part) {
  if (key.empty()) return fail(EINVAL, "mount option " + quote(part) + " has no name");
  constexpr std::string_view kBlanks = " \t\n\v\f\r";
  if (key.front() == '-') {
    // Of "-o ro", "-oro" and "--options=ro" the word after the switch.
    std::string_view rest = key.starts_with("-o") ? key.substr(2) : std::string_view();
    rest.remove_prefix(std::min(rest.find_first_not_of(kBlanks), rest.size()));
    const bool is_one = !rest.empty() && rest.find_first_of(kBlanks) == std::string_view::npos;
    return fail(EINVAL, "mount option " + quote(key) + " begins with '-'; write " +
                            (is_one ? quote(std::string(rest) + (part != key ? "=..." : "")) + ", without \"-o\""
                                    : "what follows \"-o\""));
  }
  if (key.find_first_of(kBlanks) != std::string_view::npos) {
    return fail(EINVAL, "mount option " + quote(key) + " holds a blank; a comma alone separates options");
  }
  return {};
}

}  // namespace

std::vector<std::string> paths_in_option(std::string_view value) {
  std::vector<std::string> paths(1);
  bool escaped = false;
  for (const char c : value) {
    const bool escapes = c == '\\' && !escaped;
    if (c == ':' && !escaped) {
      paths.emplace_back();
    } else if (!escapes) {
      paths.back() += c;
    }
    escaped = escapes;
  }
  return paths;
}

Result<MountOptions> parse_mount_options(std::string_view options) {
  if (options.find('\0') != std::string_view::npos) return fail(EINVAL, "mount options hold a NUL byte");
  MountOptions result;
  for (const std::string& part : TRY(split_options(options))) {
    if (part.empty()) continue;
    const std::size_t equals = part.find('=');
    const std::string key = part.substr(0, equals);
    TRY_VOID(check_key(key, part));
    std::optional<std::string> value;
    if (equals != std::string::npos) value = without_quotes(part.substr(equals + 1));
    if (!value && apply_attribute(key, result)) continue;
    if (TRY(apply_own_word(key, value, result))) continue;
    if (TRY(says_nothing(key))) continue;
    result.parameters.emplace_back(key, std::move(value));
  }
  return result;
}

}  // namespace berth
