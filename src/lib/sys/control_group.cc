#include "src/lib/sys/control_group.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "src/lib/base/hash.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::sys {
namespace {

constexpr std::size_t kMaxName = 255;  // NAME_MAX

/// Where the tree is mounted, with version 1 beside it or alone; "": nowhere.
std::string find_tree() {
  for (const char* const path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    struct statfs found {};
    if (::statfs(path, &found) == 0 && found.f_type == CGROUP2_SUPER_MAGIC) return path;
  }
  return "";
}

/// The path of this process's group in the tree, with a '/' at its beginning; "": it cannot be seen.
std::string own_path() {
  constexpr std::string_view kOfVersion2 = "0::";
  constexpr std::size_t kMost = std::size_t{64} << 10;
  const Result<std::string> text = read_file("/proc/self/cgroup", kMost);
  if (!text) return "";
  for (const std::string_view line : split(*text, '\n')) {
    if (!line.starts_with(kOfVersion2)) continue;
    const std::string_view path = line.substr(kOfVersion2.size());
    // Outside of the cgroup namespace.
    if (path.starts_with("/..")) return "";
    return std::string(path);
  }
  return "";
}

bool is_set(int group, const char* attribute) noexcept {
  char value = 0;
  return ::fgetxattr(group, attribute, &value, 1) == 1 && value == '1';
}

/// systemd marks it so: by the first where it may (CAP_SYS_ADMIN), and by the second.
bool is_delegated(int group) noexcept { return is_set(group, "trusted.delegate") || is_set(group, "user.delegate"); }

Result<UniqueFd> open_group(int parent, const std::string& name) noexcept {
  UniqueFd group(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!group) return fail_errno();
  return group;
}

Result<> write_to(int group, const char* file, std::string_view text) noexcept {
  const UniqueFd opened(::openat(group, file, O_WRONLY | O_CLOEXEC));
  if (!opened || ::write(opened.get(), text.data(), text.size()) < 0) return fail_errno();
  return {};
}

std::string hexadecimal(std::uint64_t number, std::size_t digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(digits, '0');
  for (std::size_t i = digits; i-- > 0; number /= 16) text[i] = kDigits[number % 16];
  return text;
}

bool is_plain(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ':' || c == '_' || c == '.';
}

}  // namespace

UniqueFd find_delegated_group(std::string_view leaf) {
  const std::string tree = find_tree();
  std::string path = own_path();
  if (tree.empty() || path.empty()) return {};
  if (path.ends_with("/" + std::string(leaf))) path.resize(path.size() - leaf.size() - 1);
  Result<UniqueFd> group = open_group(AT_FDCWD, tree + path);
  return group && is_delegated(group->get()) ? std::move(*group) : UniqueFd();
}

Result<UniqueFd> make_group(int parent, const std::string& name) noexcept {
  if (::mkdirat(parent, name.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno();
  return open_group(parent, name);
}

Result<> remove_group(int parent, const std::string& name) noexcept {
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) return fail_errno();
  return {};
}

std::vector<std::string> groups_below(int parent) {
  std::vector<std::string> names;
  const int copy = ::openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const listing = copy < 0 ? nullptr : ::fdopendir(copy);
  if (listing == nullptr) return names;
  while (const dirent* const entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(listing);
  return names;
}

Result<> enter_group(int group) noexcept { return write_to(group, "cgroup.procs", "0"); }

void account_below(int parent) noexcept {
  for (const char* const controller : {"+memory", "+pids"})
    (void)write_to(parent, "cgroup.subtree_control", controller);
}

std::optional<std::uint64_t> memory_of_group(int parent, const std::string& name) {
  const UniqueFd file(::openat(parent, (name + "/memory.current").c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 32> text{};
  const ssize_t length = file ? ::read(file.get(), text.data(), text.size()) : -1;
  std::uint64_t bytes = 0;
  if (length <= 0 || std::from_chars(text.data(), text.data() + length, bytes).ec != std::errc()) return std::nullopt;
  return bytes;
}

std::string group_name(std::string_view prefix, std::string_view text) {
  constexpr std::size_t kNumber = 16;
  std::string name(prefix);
  for (const char c : text) {
    if (is_plain(c)) {
      name.push_back(c);
    } else if (c == '/') {
      name.push_back('-');
    } else {
      name.append("\\x").append(hexadecimal(static_cast<unsigned char>(c), 2));
    }
  }
  if (name.size() <= kMaxName) return name;
  name.resize(kMaxName - kNumber - 1);
  return name.append("~").append(hexadecimal(fnv1a(text), kNumber));
}

}  // namespace berth::sys
