#include "src/daemon/native/overmounts.h"

#include <dirent.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::daemon {
namespace {

/// A mount namespace may hold 100,000 mounts (fs.mount-max), and any user may have made it.
constexpr std::size_t kLongestTable = std::size_t{4} << 20;
constexpr std::size_t kLongestInfo = std::size_t{1} << 20;

/// A line of mountinfo (proc(5)), with what is asked here.
struct Mount {
  std::uint64_t id = 0, parent = 0;
  std::string_view device;  ///< "0:45"
  std::string root, target;
  bool follows = false;  ///< mounts of other namespaces propagate here
};

template <typename Number>
std::optional<Number> number(std::string_view text, int base = 10) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

/// "\\040" is a space.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto code =
        text[i] == '\\' && i + 3 < text.size() ? number<unsigned>(text.substr(i + 1, 3), 8) : std::nullopt;
    plain += code ? static_cast<char>(*code) : text[i];
    if (code) i += 3;
  }
  return plain;
}

std::optional<Mount> parse(std::string_view line) {
  const std::vector<std::string_view> fields = split(line, ' ');
  constexpr std::size_t kOptionalFields = 6;
  if (fields.size() <= kOptionalFields) return std::nullopt;
  Mount mount{.id = number<std::uint64_t>(fields[0]).value_or(0),
              .parent = number<std::uint64_t>(fields[1]).value_or(0),
              .device = fields[2],
              .root = unescaped(fields[3]),
              .target = unescaped(fields[4])};
  for (std::size_t i = kOptionalFields; i < fields.size() && fields[i] != "-"; ++i) {
    mount.follows = mount.follows || fields[i].starts_with("shared:") || fields[i].starts_with("master:");
  }
  return mount;
}

std::string proc(pid_t process, std::string_view name) {
  return "/proc/" + std::to_string(process) + "/" + std::string(name);
}

Result<std::string> read_table(pid_t process) {
  Result<std::string> table = sys::read_file(proc(process, "mountinfo"), kLongestTable);
  if (!table && table.error().code() == EFBIG) return fail(EBUSY, "a mount namespace has too many mounts to look at");
  return table;
}

/// The device of what is mounted at `directory`: "0:45".
Result<std::string> device_at(pid_t host, const std::string& directory) {
  const std::string table = TRY(read_table(host));
  std::string device;
  for (const std::string_view line : split(table, '\n')) {
    const std::optional<Mount> mount = parse(line);
    if (mount && mount->target == directory) device = mount->device;
  }
  if (device.empty()) return fail(ENOENT, "the namespace is not mounted");
  return device;
}

/// Adds what is mounted on `device` in the mount namespace with that table. `is_hosts`: whether private mounts count.
void add_mounts(std::string_view table, std::string_view device, bool is_hosts, std::vector<std::string>& found) {
  std::map<std::uint64_t, Mount> mounts;
  for (const std::string_view line : split(table, '\n')) {
    if (std::optional<Mount> mount = parse(line)) {
      const std::uint64_t id = mount->id;
      mounts.emplace(id, *std::move(mount));
    }
  }
  for (const auto& [id, mount] : mounts) {
    const auto below = mounts.find(mount.parent);
    if (below == mounts.end() || below->second.device != device || !(is_hosts || below->second.follows)) continue;
    if (!mount.target.starts_with(below->second.target)) continue;
    std::string path = below->second.root + mount.target.substr(below->second.target.size());
    path.erase(0, path.find_first_not_of('/'));
    found.push_back(std::move(path));
  }
}

/// The node of a file handle that fdinfo shows of a FUSE file system (fuse_encode_fh(), fs/fuse/inode.c): in two
/// halves, the first one of which is the upper.
std::optional<fuse::NodeId> node_of(std::string_view handle) {
  constexpr std::size_t kHalf = 8;  // digits; each byte by itself, the lowest first
  if (handle.size() < 2 * kHalf) return std::nullopt;
  const auto half = [&](std::size_t at) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < kHalf; i += 2) {
      value |= std::uint64_t{number<unsigned>(handle.substr(at + i, 2), 16).value_or(0)} << (4 * i);
    }
    return value;
  };
  return half(0) << 32 | half(kHalf);
}

std::string_view value_in(std::string_view line, std::string_view key) {
  const std::size_t at = line.find(key);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = line.substr(at + key.size());
  return rest.substr(0, rest.find(' '));
}

/// Adds what one inotify descriptor watches on `device`, as the kernel prints a device number.
void add_watches(std::string_view info, std::uint64_t device, pid_t process, std::vector<Attached::Watch>& found) {
  for (const std::string_view line : split(info, '\n')) {
    if (!line.starts_with("inotify ") || number<std::uint64_t>(value_in(line, " sdev:"), 16) != device) continue;
    if (const auto node = node_of(value_in(line, " f_handle:"))) found.push_back({*node, process});
  }
}

template <typename Do>
void for_each_number(const std::string& directory, const Do& act) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory.c_str()), &::closedir);
  if (!listing) return;
  while (const dirent* const entry = ::readdir(listing.get())) {
    if (const auto value = number<int>(entry->d_name)) act(*value);
  }
}

std::string link_at(const std::string& path) {
  std::array<char, 64> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return {target.data(), static_cast<std::size_t>(length < 0 ? 0 : length)};
}

}  // namespace

Result<Attached> find_attached(pid_t host, const std::string& directory) {
  const std::string device = TRY(device_at(host, directory));
  const std::vector<std::string_view> numbers = split(device, ':');
  constexpr unsigned kMinorBits = 20;  // of a device number in the kernel
  const std::uint64_t as_printed = number<std::uint64_t>(numbers.front()).value_or(0) << kMinorBits |
                                   number<std::uint64_t>(numbers.back()).value_or(0);
  const std::string hosts = link_at(proc(host, "ns/mnt"));
  Attached attached;
  std::set<std::string> seen;
  Result<> looked;
  for_each_number("/proc", [&](pid_t process) {
    const std::string mount_namespace = link_at(proc(process, "ns/mnt"));
    if (!mount_namespace.empty() && seen.insert(mount_namespace).second) {
      const Result<std::string> table = read_table(process);
      if (table) add_mounts(*table, device, mount_namespace == hosts, attached.mounts);
      if (!table && table.error().code() == EBUSY) looked = fail(table.error());
    }
    const std::string descriptors = proc(process, "fd");
    for_each_number(descriptors, [&](int descriptor) {
      if (link_at(descriptors + "/" + std::to_string(descriptor)) != "anon_inode:inotify") return;
      const Result<std::string> info =
          sys::read_file(proc(process, "fdinfo/" + std::to_string(descriptor)), kLongestInfo);
      if (info) add_watches(*info, as_printed, process, attached.watches);
    });
  });
  if (!looked) return fail(looked.error());
  return attached;
}

}  // namespace berth::daemon
