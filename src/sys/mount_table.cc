#include "src/sys/mount_table.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include <cerrno>
#include <charconv>

#include "src/sys/file.h"

namespace berth::sys {
namespace {

constexpr const char* kMountInfo = "/proc/thread-self/mountinfo";
constexpr std::size_t kMostBytes = 256UL << 20U;

/// The fields of one line, still escaped. proc(5):
///   36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
///   id parent dev root target options [optional ...] - type source super-options
struct RawEntry {
  std::string_view id, parent, root, target, options, type, source;
};

bool is_octal(char c) noexcept { return c >= '0' && c <= '7'; }

/// Takes the first character of `escaped`, which is not empty: the kernel writes white space, '#' and the backslash as a
/// backslash and three octal digits.
char take_character(std::string_view& escaped) noexcept {
  const char first = escaped[0];
  const bool is_escape = first == '\\' && escaped.size() >= 4 && escaped[1] <= '3' && is_octal(escaped[1]) &&
                         is_octal(escaped[2]) && is_octal(escaped[3]);
  const auto digit = [escaped](std::size_t at) { return escaped[at] - '0'; };
  const char result = is_escape ? static_cast<char>(digit(1) * 64 + digit(2) * 8 + digit(3)) : first;
  escaped.remove_prefix(is_escape ? 4 : 1);
  return result;
}

std::string unescape(std::string_view escaped) {
  std::string result;
  result.reserve(escaped.size());
  while (!escaped.empty()) result += take_character(escaped);
  return result;
}

/// Whether `escaped` means `plain`.
bool means(std::string_view escaped, std::string_view plain) noexcept {
  while (!escaped.empty() && !plain.empty()) {
    if (take_character(escaped) != plain[0]) return false;
    plain.remove_prefix(1);
  }
  return escaped.empty() && plain.empty();
}

/// Takes what stands before the next `separator`, and that with it.
std::string_view take_until(std::string_view& text, char separator) noexcept {
  const std::size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

std::optional<RawEntry> parse_line(std::string_view line) noexcept {
  RawEntry entry;
  entry.id = take_until(line, ' ');
  entry.parent = take_until(line, ' ');
  take_until(line, ' ');  // device
  entry.root = take_until(line, ' ');
  entry.target = take_until(line, ' ');
  entry.options = take_until(line, ' ');
  while (!line.empty() && take_until(line, ' ') != "-") continue;
  entry.type = take_until(line, ' ');
  entry.source = take_until(line, ' ');  // empty where somebody mounted with ""
  if (entry.target.empty() || entry.type.empty()) return std::nullopt;
  return entry;
}

std::uint64_t number(std::string_view text) noexcept {
  std::uint64_t result = 0;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

MountEntry entry_of(const RawEntry& raw) {
  return {
      .id = number(raw.id),
      .parent = number(raw.parent),
      .root = unescape(raw.root),
      .target = unescape(raw.target),
      .type = unescape(raw.type),
      .source = unescape(raw.source),
      .options = unescape(raw.options),
  };
}

}  // namespace

std::vector<MountEntry> parse_mount_table(std::string_view mountinfo) {
  std::vector<MountEntry> entries;
  while (!mountinfo.empty()) {
    if (const auto entry = parse_line(take_until(mountinfo, '\n'))) entries.push_back(entry_of(*entry));
  }
  return entries;
}

Result<std::vector<MountEntry>> read_mount_table() {
  const std::string mountinfo = TRY(read_file(kMountInfo, kMostBytes));
  return parse_mount_table(mountinfo);
}

Result<bool> is_mountpoint(const std::string& target) {
  const std::size_t last = target.find_last_not_of('/');
  if (last == std::string::npos) return !target.empty();  // "/" is one
  const std::size_t slash = target.rfind('/', last);
  const std::string parent = slash == std::string::npos ? "." : target.substr(0, slash + 1);
  const std::string name = target.substr(slash + 1, last - slash);

  Result<UniqueFd> above = open_at(AT_FDCWD, parent.c_str(), O_PATH | O_DIRECTORY);
  if (!above) return above.error().code() == ENOENT ? Result<bool>(false) : fail(above.error());
  struct open_how how {};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV;
  const UniqueFd found(static_cast<int>(::syscall(SYS_openat2, above->get(), name.c_str(), &how, sizeof how)));
  if (found) return false;
  if (errno == EXDEV) return true;
  if (errno == ENOENT) return false;
  return fail_errno();
}

Result<std::optional<MountEntry>> find_mount(std::string_view target) {
  // The table costs the kernel a microsecond or two a line; most of the time nothing is there.
  if (const Result<bool> mounted = is_mountpoint(std::string(target)); mounted && !*mounted) {
    return std::optional<MountEntry>();
  }
  const std::string mountinfo = TRY(read_file(kMountInfo, kMostBytes));
  std::optional<RawEntry> topmost;
  for (std::string_view rest = mountinfo; !rest.empty();) {
    const auto entry = parse_line(take_until(rest, '\n'));
    if (entry && means(entry->target, target)) topmost = entry;
  }
  if (!topmost) return std::optional<MountEntry>();
  return std::optional<MountEntry>(entry_of(*topmost));
}

bool kernel_knows_filesystem(std::string_view type) {
  const Result<std::string> known = read_file("/proc/filesystems", 1U << 16U);
  if (!known) return false;
  // Lines are "nodev\tTYPE" or "\tTYPE".
  const std::string line = "\t" + std::string(type) + "\n";
  return !type.empty() && known->find(line) != std::string::npos;
}

}  // namespace berth::sys
