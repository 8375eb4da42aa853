#include "src/daemon/native/holders.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "src/daemon/common/namespace_mount.h"
#include "src/daemon/native/mountinfo.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/proc.h"

namespace berth::daemon {
namespace {

using Unmounted = manager::NativeAccess::Unmounted;

/// How long all mount namespaces may take: any user can make many, with many mounts.
constexpr std::chrono::seconds kPatience{1};

std::string told_of(pid_t process, const char* does) {
  return "process " + std::to_string(process) + " (" + quote(sys::proc::command_of(process)) + ") " + does;
}

/// Whether the kernel has the file system with that device number in use, as far as it tells without asking the file
/// system: local disks in /sys/fs/TYPE/DISK, FUSE in /sys/fs/fuse/connections (Documentation/filesystems/fuse.rst), NFS
/// in /proc/fs/nfsfs/volumes.
bool is_in_use(std::uint64_t device) {
  const auto exists = [](const std::string& path) { return ::access(path.c_str(), F_OK) == 0; };
  const std::string number = std::to_string(major(device)) + ":" + std::to_string(minor(device));
  if (major(device) == 0) {
    if (exists("/sys/fs/fuse/connections/" + std::to_string(minor(device)))) return true;
    const std::string volumes = sys::proc::read("/proc/fs/nfsfs/volumes").value_or("");
    return volumes.find(" " + number + " ") != std::string::npos;
  }
  const std::string disk = sys::proc::link_target("/sys/dev/block/" + number);
  const std::string name = disk.substr(disk.rfind('/') + 1);
  if (name.empty()) return false;
  constexpr std::array kTypes{"ext4", "xfs", "f2fs"};
  return std::any_of(kTypes.begin(), kTypes.end(),
                     [&](const char* type) { return exists("/sys/fs/" + std::string(type) + "/" + name); });
}

class Look {
 public:
  Look(std::string namespace_device, const std::vector<Unmounted>& shares)
      : namespace_device_(std::move(namespace_device)), found_(shares.size()) {
    for (std::size_t i = 0; i < shares.size(); ++i) {
      by_name_.emplace(shares[i].share, i);
      if (shares[i].device == 0) continue;
      by_device_[std::to_string(major(shares[i].device)) + ":" + std::to_string(minor(shares[i].device))].push_back(i);
    }
  }

  /// Of the server: a file system that another share shows is not let go of, and that is no news.
  void leave_out(std::string_view table) {
    for (const std::string_view line : split(table, '\n')) {
      if (const std::optional<MountLine> mount = parse_mount_line(line)) by_device_.erase(std::string(mount->device));
    }
  }

  /// `process`: one in the mount namespace with that table; 0: it is the host's.
  void add(std::string_view table, pid_t process) {
    std::map<std::uint64_t, MountLine> on_namespace;  // mounts of the namespace, which shares are mounted on
    std::vector<MountLine> others;
    for (const std::string_view line : split(table, '\n')) {
      std::optional<MountLine> mount = parse_mount_line(line);
      if (!mount) continue;
      if (mount->device == namespace_device_) {
        const std::uint64_t id = mount->id;
        on_namespace.emplace(id, *std::move(mount));
      } else {
        others.push_back(*std::move(mount));
      }
    }
    std::set<std::size_t> here;
    for (const MountLine& mount : others) {
      const auto device = by_device_.find(std::string(mount.device));
      if (device != by_device_.end()) {
        for (const std::size_t share : device->second) note(share, mount, process, here);
      }
      const auto below = on_namespace.find(mount.parent);
      if (below == on_namespace.end() || !mount.target.starts_with(below->second.target)) continue;
      std::string path = below->second.root + mount.target.substr(below->second.target.size());
      path.erase(0, path.find_first_not_of('/'));
      if (const auto share = by_name_.find(path); share != by_name_.end()) note(share->second, mount, process, here);
    }
  }

  /// File systems that are in use, but not in a table that was seen.
  [[nodiscard]] std::map<std::uint64_t, std::size_t> unexplained(const std::vector<Unmounted>& shares) const {
    std::map<std::uint64_t, std::size_t> devices;
    for (const auto& [text, of_shares] : by_device_) {
      const std::size_t share = of_shares.front();
      if (found_[share].first.empty() && is_in_use(shares[share].device)) devices.emplace(shares[share].device, share);
    }
    return devices;
  }

  void set_found(std::size_t share, std::string text) { found_[share].first = std::move(text); }

  /// Not everything could be looked at.
  void set_incomplete(std::string reason) { incomplete_ = std::move(reason); }

  [[nodiscard]] std::vector<std::string> told() && {
    std::vector<std::string> texts;
    for (Found& found : found_) {
      if (found.more > 0) {
        found.first += ", and " + std::to_string(found.more) +
                       (found.more == 1 ? " more mount namespace has" : " more mount namespaces have");
      }
      texts.push_back(found.first.empty() ? incomplete_ : std::move(found.first));
    }
    return texts;
  }

 private:
  struct Found {
    std::string first;
    std::size_t more = 0;  ///< mount namespaces besides the first
  };

  void note(std::size_t share, const MountLine& mount, pid_t process, std::set<std::size_t>& here) {
    if (!here.insert(share).second) return;
    Found& found = found_[share];
    if (!found.first.empty()) {
      ++found.more;
    } else if (process == 0) {
      found.first = "it is still mounted at " + quote(mount.target);
    } else {
      // Where, is for those to know that may look into that mount namespace.
      found.first = told_of(process, "still has it mounted in its own mount namespace");
    }
  }

  const std::string namespace_device_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::map<std::string, std::vector<std::size_t>> by_device_;
  std::vector<Found> found_;
  std::string incomplete_;
};

std::string mount_namespace_of(pid_t thread) { return sys::proc::link_target(sys::proc::path_of(thread, "ns/mnt")); }

/// True for what is no mount namespace at all, too.
bool is_seen_namespace(const std::string& target, const std::set<std::string>& seen) {
  return !target.starts_with("mnt:[") || seen.contains(target);
}

/// What a process refers to that keeps a file system or a mount namespace: its directories and its descriptors.
std::vector<std::string> references_of(pid_t process) {
  std::vector<std::string> paths{sys::proc::path_of(process, "cwd"), sys::proc::path_of(process, "root")};
  const std::string descriptors = sys::proc::path_of(process, "fd");
  for (const pid_t number : sys::proc::numbers_in(descriptors))
    paths.push_back(descriptors + "/" + std::to_string(number));
  return paths;
}

/// The device (makedev(3)) of the file that a link of /proc leads to, without asking its file system; 0: not known.
std::uint64_t device_of(const std::string& path) {
  struct statx file {};
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, STATX_TYPE, &file) != 0) return 0;
  return makedev(file.stx_dev_major, file.stx_dev_minor);
}

/// Names a process that has one of the file systems `devices` open, else one that holds a mount namespace which is not
/// in `seen`.
/// `paths`: what begins so is of the share as well, opened through berth: the kernel keeps the real file behind it
/// open.
void look_at_descriptors(Look& look, std::map<std::uint64_t, std::size_t> devices,
                         const std::map<std::uint64_t, std::string>& paths, const std::set<std::string>& seen,
                         TimePoint until) {
  // What we hold ourselves (a request that is stuck in a share that was unmounted by force) is no news.
  for (const std::string& path : references_of(sys::proc::own_process())) devices.erase(device_of(path));
  std::string holder;
  for (const pid_t process : sys::proc::numbers_in("/proc")) {
    if (devices.empty() || SystemClock().now() >= until) break;
    for (const std::string& path : references_of(process)) {
      const std::string target = sys::proc::link_target(path);
      if (holder.empty() && !is_seen_namespace(target, seen)) {
        holder = told_of(process, "holds a mount namespace that no process is in, which may have it mounted");
      }
      auto device = devices.find(device_of(path));
      if (device == devices.end()) {
        device = std::find_if(devices.begin(), devices.end(),
                              [&](const auto& one) { return target.starts_with(paths.at(one.first)); });
      }
      if (device == devices.end()) continue;
      look.set_found(device->second, told_of(process, "has a file or a directory of it open"));
      devices.erase(device);
    }
  }
  if (holder.empty()) holder = "the kernel has it in use, but no process that has it mounted or open is seen";
  for (const auto& [device, share] : devices) look.set_found(share, holder);
}

/// A thread may have a mount namespace of its own (unshare(2)).
std::vector<pid_t> threads_of(pid_t process) { return sys::proc::numbers_in(sys::proc::path_of(process, "task")); }

}  // namespace

Result<std::vector<std::string>> find_holders(pid_t host, const std::string& directory,
                                              const std::vector<Unmounted>& shares) {
  const TimePoint until = SystemClock().now() + kPatience;
  // Where the namespace itself is gone nothing is mounted on it either.
  Look look(device_at(host, directory).value_or(""), shares);
  const pid_t self = sys::proc::own_process();
  look.leave_out(TRY(read_mountinfo(self)));
  std::set<std::string> seen{mount_namespace_of(self), mount_namespace_of(host)};
  look.add(TRY(read_mountinfo(host)), 0);
  for (const pid_t process : sys::proc::numbers_in("/proc")) {
    for (const pid_t thread : threads_of(process)) {
      const std::string name = mount_namespace_of(thread);
      if (name.empty() || !seen.insert(name).second) continue;
      const Result<std::string> table = read_mountinfo(thread);
      if (table) look.add(*table, process);
      if (!table && table.error().code() == EBUSY) {
        look.set_incomplete(
            "whether " +
            told_of(process, "still has it mounted is not known: its mount namespace has too many mounts to look at"));
      }
    }
    if (SystemClock().now() < until) continue;
    look.set_incomplete("whether a process still has it mounted is not known: there are too many to look at");
    break;
  }
  const std::map<std::uint64_t, std::size_t> devices = look.unexplained(shares);
  std::map<std::uint64_t, std::string> paths;
  for (const auto& [device, share] : devices) paths.emplace(device, directory + "/" + shares[share].share + "/");
  look_at_descriptors(look, devices, paths, seen, until);
  return std::move(look).told();
}

}  // namespace berth::daemon
