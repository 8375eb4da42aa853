#include "tests/parity/observer.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "src/lib/base/text.h"
#include "tests/parity/hand.h"
#include "tests/parity/options.h"

namespace berth::test {
namespace {

/// Times before this were set by a call; all others are of the clock.
constexpr time_t kSet = 1'000'000'000;
/// As much of a file is looked at from its start, and from its end.
constexpr std::size_t kWindow = 400 * 1024;

std::string data_of(int directory, const char* name) {
  const UniqueFd file(::openat(directory, name, O_RDONLY | O_NOATIME | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file) return "cannot be opened: " + result(-1);
  std::string bytes(kWindow, '\0');
  const ssize_t size = ::pread(file.get(), bytes.data(), bytes.size(), 0);
  if (size < 0) return "cannot be read: " + result(-1);
  bytes.resize(static_cast<std::size_t>(size));
  struct stat s {};
  if (bytes.size() == kWindow && ::fstat(file.get(), &s) == 0) {
    std::string end(4096, '\0');
    const ssize_t more = ::pread(file.get(), end.data(), end.size(), s.st_size - static_cast<off_t>(end.size()));
    bytes.append(end, 0, static_cast<std::size_t>(std::max<ssize_t>(more, 0)));
  }
  return digest(bytes);
}

std::string attributes_of(const std::string& path) {
  std::string names(16'384, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0) return result(size);
  std::set<std::string> sorted;
  for (const std::string_view name : split({names.data(), static_cast<std::size_t>(size)}, '\0')) {
    if (name.empty()) continue;
    std::string value(70'000, '\0');
    const ssize_t length = ::lgetxattr(path.c_str(), std::string(name).c_str(), value.data(), value.size());
    sorted.insert(std::string(name) + "=" +
                  (length < 0 ? result(length) : digest({value.data(), static_cast<std::size_t>(length)})));
  }
  std::string text;
  for (const std::string& one : sorted) text += one + " ";
  return text;
}

bool same(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

std::string target_of(int directory, const char* name) {
  std::array<char, 5000> target;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by readlinkat
  const ssize_t size = ::readlinkat(directory, name, target.data(), target.size());
  return size < 0 ? result(size) : digest({target.data(), static_cast<std::size_t>(size)});
}

/// What is looked at besides stat(2).
struct With {
  bool data;
  const std::set<std::string>& known;
};

/// Looks at `name` in `directory`, and at what is below it.
void look_at(Tree& tree, int directory, const std::string& name, const std::string& path, const std::string& absolute,
             const With& with) {
  Seen seen;
  if (::fstatat(directory, name.c_str(), &seen.status, AT_SYMLINK_NOFOLLOW) != 0) {
    seen.data = "stat: " + result(-1);
    tree.emplace(path, std::move(seen));
    return;
  }
  const mode_t type = seen.status.st_mode & S_IFMT;
  if (with.data && !with.known.contains(path)) {
    if (type == S_IFLNK) seen.target = target_of(directory, name.c_str());
    seen.attributes = attributes_of(absolute);
    if (type == S_IFREG) seen.data = data_of(directory, name.c_str());
  }
  tree.emplace(path, std::move(seen));
  if (type != S_IFDIR) return;
  const int fd = ::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
  DIR* const stream = fd < 0 ? nullptr : ::fdopendir(fd);
  if (stream == nullptr) {
    tree.at(path).data = "cannot be listed: " + result(-1);
    return;
  }
  while (const dirent* const entry = ::readdir(stream)) {
    const std::string below = entry->d_name;
    if (below == "." || below == "..") continue;
    look_at(tree, ::dirfd(stream), below, path == "." ? below : path + "/" + below, absolute + "/" + below, with);
  }
  ::closedir(stream);
}

struct Time {
  const char* name;
  timespec stat::*member;
};
constexpr std::array<Time, 3> kTimes{{{"atime", &stat::st_atim}, {"mtime", &stat::st_mtim}, {"ctime", &stat::st_ctim}}};

std::string shown(const timespec& time) { return std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec); }

std::string times_of(const struct stat& native, const struct stat& share) {
  std::string text;
  for (const auto& [name, member] : kTimes) {
    const timespec here = native.*member, there = share.*member;
    const bool set = here.tv_sec < kSet || there.tv_sec < kSet;
    if (S_ISDIR(native.st_mode) && member == &stat::st_atim) continue;
    if (set && !same(here, there)) text += std::string(" ") + name + " " + shown(here) + " but " + shown(there);
  }
  return text;
}

std::string changes_of(const struct stat* native_before, const struct stat& native, const struct stat* share_before,
                       const struct stat& share, bool with_reads) {
  if (native_before == nullptr || share_before == nullptr) return "";
  std::string text;
  for (const auto& [name, member] : kTimes) {
    // A directory that the kernel lists again from its cache is not read.
    const bool listed = S_ISDIR(native.st_mode) || !with_reads;
    if (listed && member == &stat::st_atim) continue;
    // What goes through a FIFO goes past FUSE.
    if (S_ISFIFO(native.st_mode)) continue;
    const bool here = !same(native_before->*member, native.*member);
    const bool there = !same(share_before->*member, share.*member);
    if (here != there) text += std::string(" ") + name + (here ? " changed but not here" : " changed here alone");
  }
  return text;
}

const struct stat* find(const std::map<ino_t, struct stat>& before, const struct stat& now) {
  const auto found = before.find(now.st_ino);
  return found == before.end() || (found->second.st_mode & S_IFMT) != (now.st_mode & S_IFMT) ? nullptr : &found->second;
}

std::map<ino_t, struct stat> by_number(const Tree& tree) {
  std::map<ino_t, struct stat> files;
  for (const auto& [path, seen] : tree) files.emplace(seen.status.st_ino, seen.status);
  return files;
}

/// The first path of each file that has several: links must be links on both sides.
std::map<std::string, std::string> links_of(const Tree& tree) {
  std::map<ino_t, std::string> first;
  std::map<std::string, std::string> links;
  for (const auto& [path, seen] : tree) {
    const auto [found, is_first] = first.emplace(seen.status.st_ino, path);
    if (!is_first) links.emplace(path, found->second);
  }
  return links;
}

template <typename T>
void differ(std::string& text, const char* what, const T& native, const T& share) {
  if (native == share) return;
  if constexpr (std::is_same_v<T, std::string>) {
    text += std::string(" ") + what + " '" + native + "' but '" + share + "'";
  } else {
    text += std::string(" ") + what + " " + std::to_string(native) + " but " + std::to_string(share);
  }
}

}  // namespace

Tree look(const std::string& root, bool with_data, const std::set<std::string>& known) {
  Tree tree;
  const UniqueFd at(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  look_at(tree, at.get(), ".", ".", root, {with_data, known});
  return tree;
}

std::string Comparison::file(const std::string& path, const Seen& native, const Seen& share, bool times) const {
  const struct stat &here = native.status, &there = share.status;
  std::string text;
  if (here.st_mode != there.st_mode) {
    char modes[64];
    std::snprintf(modes, sizeof modes, " mode %o but %o", here.st_mode, there.st_mode);
    text += modes;
  }
  differ(text, "links", here.st_nlink, there.st_nlink);
  differ(text, "uid", here.st_uid, there.st_uid);
  differ(text, "gid", here.st_gid, there.st_gid);
  differ(text, "rdev", here.st_rdev, there.st_rdev);
  differ(text, "size", here.st_size, there.st_size);
  differ(text, "block size", here.st_blksize, there.st_blksize);
  if (!tolerance_.blocks) differ(text, "blocks", here.st_blocks, there.st_blocks);
  differ(text, "target", native.target, share.target);
  differ(text, "attributes", native.attributes, share.attributes);
  differ(text, "data", native.data, share.data);
  text += times_of(here, there);
  const bool with_reads = options().atime && !tolerance_.reads;
  if (times) text += changes_of(find(native_before_, here), here, find(share_before_, there), there, with_reads);
  return text.empty() ? "" : "  " + quote(path) + ":" + text + "\n";
}

std::string Comparison::compare(Tree native, Tree share, bool times) {
  std::string text;
  for (const auto& [path, seen] : native) {
    const auto other = share.find(path);
    text += other == share.end() ? "  " + quote(path) + " is missing\n" : file(path, seen, other->second, times);
  }
  for (const auto& [path, seen] : share) {
    if (!native.contains(path)) text += "  " + quote(path) + " should not be there\n";
  }
  if (links_of(native) != links_of(share)) text += "  not the same names are links of one file\n";
  native_before_ = by_number(native);
  share_before_ = by_number(share);
  return text;
}

}  // namespace berth::test
