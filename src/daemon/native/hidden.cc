#include "src/daemon/native/hidden.h"

#include <cerrno>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "src/daemon/native/mountinfo.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/proc.h"

namespace berth::daemon {
namespace {

using sys::proc::link_target;
using sys::proc::numbers_in;
using sys::proc::path_of;

/// An inotify descriptor may have as many watches as its user.
constexpr std::size_t kLongestInfo = std::size_t{1} << 20;

template <typename Number>
std::optional<Number> number(std::string_view text, int base = 10) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

/// Adds what is mounted on `device` in the mount namespace with that table. `is_hosts`: whether private mounts count.
void add_mounts(std::string_view table, std::string_view device, bool is_hosts, std::vector<Hidden::Mount>& found) {
  std::map<std::uint64_t, MountLine> mounts;
  for (const std::string_view line : split(table, '\n')) {
    if (std::optional<MountLine> mount = parse_mount_line(line)) {
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
    found.push_back({std::move(path), is_hosts});
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

/// The namespace, as fdinfo names it.
struct Watched {
  std::uint64_t device;            ///< as the kernel prints a device number
  std::set<std::uint64_t> mounts;  ///< their ids, on the host
};

/// Adds what one descriptor of inotify(7) or fanotify(7) watches there (proc(5), /proc/PID/fdinfo). fanotify(7) can
/// mark a mount or a file system as a whole.
void add_watches(std::string_view info, const Watched& watched, pid_t process, std::vector<Hidden::Watch>& found) {
  for (const std::string_view line : split(info, '\n')) {
    const char* const by = line.starts_with("inotify ")    ? "inotify"
                           : line.starts_with("fanotify ") ? "fanotify"
                                                           : nullptr;
    if (by == nullptr) continue;
    const auto mount = number<std::uint64_t>(value_in(line, " mnt_id:"), 16);
    if (mount ? !watched.mounts.contains(*mount)
              : number<std::uint64_t>(value_in(line, " sdev:"), 16) != watched.device)
      continue;
    const bool is_of_one = line.find(" ino:") != std::string_view::npos;
    if (!is_of_one) found.push_back({0, process, by});
    if (const auto node = node_of(value_in(line, " f_handle:")); is_of_one && node)
      found.push_back({*node, process, by});
  }
}

/// The ids of the mounts of `device` in that table.
std::set<std::uint64_t> mounts_of(std::string_view table, std::string_view device) {
  std::set<std::uint64_t> ids;
  for (const std::string_view line : split(table, '\n')) {
    const std::optional<MountLine> mount = parse_mount_line(line);
    if (mount && mount->device == device) ids.insert(mount->id);
  }
  return ids;
}

}  // namespace

Result<Hidden> find_hidden(pid_t host, const std::string& directory) {
  const std::string device = TRY(device_at(host, directory));
  const std::vector<std::string_view> numbers = split(device, ':');
  constexpr unsigned kMinorBits = 20;  // of a device number in the kernel
  const Watched watched{.device = number<std::uint64_t>(numbers.front()).value_or(0) << kMinorBits |
                                  number<std::uint64_t>(numbers.back()).value_or(0),
                        .mounts = mounts_of(TRY(read_mountinfo(host)), device)};
  const std::string hosts = link_target(path_of(host, "ns/mnt"));
  Hidden hidden;
  std::set<std::string> seen;
  Result<> looked;
  for (const pid_t process : numbers_in("/proc")) {
    const std::string mount_namespace = link_target(path_of(process, "ns/mnt"));
    if (!mount_namespace.empty() && seen.insert(mount_namespace).second) {
      const Result<std::string> table = read_mountinfo(process);
      if (table) add_mounts(*table, device, mount_namespace == hosts, hidden.mounts);
      if (!table && table.error().code() == EBUSY) looked = fail(table.error());
    }
    const std::string descriptors = path_of(process, "fd");
    for (const int descriptor : numbers_in(descriptors)) {
      const std::string file = link_target(descriptors + "/" + std::to_string(descriptor));
      if (file != "anon_inode:inotify" && file != "anon_inode:[fanotify]") continue;
      const Result<std::string> info =
          sys::read_file(path_of(process, "fdinfo/" + std::to_string(descriptor)), kLongestInfo);
      if (info) add_watches(*info, watched, process, hidden.watches);
    }
  }
  if (!looked) return fail(looked.error());
  return hidden;
}

}  // namespace berth::daemon
