#include "src/daemon/common/namespace_mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::daemon {
namespace {

/// How long a namespace that is there may take to show that it lives.
constexpr std::chrono::seconds kProbePatience{3};

enum class Life { kDead, kAlive, kSilent };

/// Asks the namespace at `directory` for a sign of life, in a process of its own: the call may never come back. It asks
/// for a name that was never asked for, because the kernel answers cached names without the daemon.
Result<Life> probe(const std::string& directory) {
  const std::string unknown =
      directory + "/.probe-" + std::to_string(std::chrono::steady_clock::now().time_since_epoch().count());
  sys::Process stat = TRY(sys::Process::start({"stat", "--", unknown}));
  const Result<sys::ExitStatus> status = stat.wait(std::chrono::steady_clock::now() + kProbePatience);
  if (!status) return Life::kSilent;
  const std::string said = stat.output();
  const bool dead =
      said.find(errno_text(ENOTCONN)) != std::string::npos || said.find(errno_text(ECONNABORTED)) != std::string::npos;
  return dead ? Life::kDead : Life::kAlive;
}

/// Whether a namespace whose berth is dead is mounted there. Errors: EBUSY when it is not dead.
Result<bool> is_stale(const std::string& directory) {
  const std::optional<sys::MountEntry> there = TRY(sys::find_mount(directory));
  if (!there || there->type != kNamespaceType) return false;
  switch (TRY(probe(directory))) {
    case Life::kAlive:
      return fail(EBUSY,
                  quote(directory) + " is served by another berth already; see " + quote(directory + "/.berth/status"));
    case Life::kSilent:
      return fail(EBUSY,
                  quote(directory) + " is a berth namespace whose berth does not answer; end that process first");
    case Life::kDead:
      return true;
  }
  return false;
}

Result<> take_off_stale(const std::string& directory) {
  const Result<> taken = sys::unmount(directory, MNT_DETACH);
  return taken ? taken : fail(taken.error().within("cannot take the dead namespace off " + quote(directory)));
}

/// Of several dead ones on each other the lowest is left.
Result<> leave_one(const std::string& directory) {
  const std::vector<sys::MountEntry> table = TRY(sys::read_mount_table());
  const auto count = std::count_if(table.begin(), table.end(), [&](const sys::MountEntry& entry) {
    return entry.target == directory && entry.type == kNamespaceType;
  });
  for (auto left = count; left > 1; --left) TRY_VOID(take_off_stale(directory));
  return {};
}

/// The new one is put below the dead one, which is then taken off: the directory itself never shows.
Result<> replace_stale(int device, const std::string& directory) {
  TRY_VOID(leave_one(directory));
  MountOptions options;
  options.attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  // Of kNamespaceType mount(2) makes two words, fsconfig(2) does not.
  options.parameters = {{"subtype", "berth"},
                        {"fd", std::to_string(device)},
                        {"rootmode", "40755"},
                        {"user_id", std::to_string(::getuid())},
                        {"group_id", std::to_string(::getgid())},
                        {"allow_other", std::nullopt},
                        {"default_permissions", std::nullopt}};
  const UniqueFd mount = TRY(sys::make_mount("fuse", kNamespaceSource, options));
  if (sys::attach_mount_beneath(mount.get(), directory)) return take_off_stale(directory);
  TRY_VOID(take_off_stale(directory));
  return sys::attach_mount(mount.get(), directory);
}

Result<> mount_on_empty(int device, const std::string& directory) {
  const std::string options = "fd=" + std::to_string(device) + ",rootmode=40755,user_id=" + std::to_string(::getuid()) +
                              ",group_id=" + std::to_string(::getgid()) + ",allow_other,default_permissions";
  if (::mount(kNamespaceSource, directory.c_str(), kNamespaceType, MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    const int code = errno;
    const std::string where = "cannot mount the namespace at " + quote(directory);
    // EINVAL would be a mistake in the configuration.
    return code == EINVAL ? fail(ENODEV, where + ": /dev/fuse is none; make it with `mknod -m 666 /dev/fuse c 10 229`")
                          : fail(Error(code).within(where));
  }
  return {};
}

Result<> check_empty(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory.c_str()), &::closedir);
  if (!listing) return fail(Error::last().within("cannot read " + quote(directory)));
  while (const dirent* entry = ::readdir(listing.get())) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    return fail(ENOTEMPTY, quote(directory) + " is not empty (it has " + quote(entry->d_name) +
                               "); a namespace would hide what is in it: choose an empty directory");
  }
  return {};
}

/// Pages that mappings of files have made dirty may take a part of what may be dirty on this host: of a FUSE file
/// system 1 % (fuse_bdi_init()), for all shares together. Those of one share whose server does not answer can take all
/// of it, and then no other writer of a mapping that comes through berth goes on. So they get more, and have a part of
/// their own beside busy disks. Where /sys is not ours to write to (without root, in some containers) it stays as it
/// is.
void allow_dirty_pages(const std::string& directory) {
  struct statx x {};
  if (::statx(AT_FDCWD, directory.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &x) != 0) return;
  const std::string info =
      "/sys/class/bdi/" + std::to_string(x.stx_dev_major) + ":" + std::to_string(x.stx_dev_minor) + "/";
  const std::pair<const char*, std::string_view> ratios[] = {{"max_ratio", "20"}, {"min_ratio", "5"}};
  for (const auto& [name, percent] : ratios) {
    const Result<UniqueFd> file = sys::open_at(AT_FDCWD, (info + name).c_str(), O_WRONLY);
    if (file) static_cast<void>(sys::write_all(file->get(), percent));
  }
}

/// Where the namespace is mounted now, for `mount --move` may have taken it elsewhere. "": nowhere, or it is covered.
Result<std::string> path_of(const NamespaceMount& mount) {
  for (const sys::MountEntry& entry : TRY(sys::read_mount_table())) {
    if (entry.id != mount.table_id || entry.type != kNamespaceType) continue;
    const bool is_on_top = mount_id_at(AT_FDCWD, entry.target).value_or(0) == mount.id;
    return is_on_top ? entry.target : std::string();
  }
  return std::string();
}

}  // namespace

Result<std::uint64_t> mount_id_at(int directory, const std::string& path) {
  for (const unsigned kind : {kStatxMountIdUnique, static_cast<unsigned>(STATX_MNT_ID)}) {
    struct statx x {};
    const int flags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
    if (::statx(directory, path.c_str(), flags, kind, &x) != 0) return fail_errno();
    if ((x.stx_mask & kind) != 0) return x.stx_mnt_id;
  }
  return fail(EOPNOTSUPP, "this kernel tells no mount ids (statx(2), Linux 5.8)");
}

Result<UniqueFd> open_fuse_device() {
  Result<UniqueFd> device = sys::open_at(AT_FDCWD, "/dev/fuse", O_RDWR);
  if (device) return device;
  const int code = device.error().code();
  if (code == ENOENT || code == ENODEV || code == ENXIO) {
    return fail(code,
                "cannot open /dev/fuse: this kernel has no FUSE loaded; try `modprobe fuse`, and in a container give "
                "it the device");
  }
  return fail(code, "cannot open /dev/fuse: " + errno_text(code) +
                        "; `chmod 666 /dev/fuse` lets every user open it, as on most systems");
}

Result<std::string> prepare_namespace_directory(const std::string& directory) {
  if (directory == kUsualNamespace && ::mkdir(kUsualNamespace, 0755) != 0 && errno != EEXIST) {
    const Error error = Error::last().within("cannot make the namespace directory " + quote(directory));
    if (!sys::is_own_root()) return fail(error);
    return fail(error.code(), error.message() + "; choose one of yours, such as --namespace ~/volumes");
  }
  const std::unique_ptr<char, void (*)(void*)> resolved(::realpath(directory.c_str(), nullptr), &::free);
  if (!resolved) {
    const Error error = Error::last();
    if (error.code() == ENOENT) {
      return fail(ENOENT, "the namespace directory " + quote(directory) + " does not exist; make it: mkdir -p " +
                              quote_command({directory}));
    }
    return fail(error.within("the namespace directory " + quote(directory)));
  }
  const std::string path = resolved.get();
  if (path == "/") return fail(EINVAL, "the namespace cannot be the root directory");
  // What a dead one covers was found empty when that was mounted, and is covered until the new one is there.
  if (TRY(is_stale(path))) return path;

  // On an automount point (systemd.automount(5)) looking inside would wait for the very mount that is being made.
  const std::optional<sys::MountEntry> there = TRY(sys::find_mount(path));
  if (there && there->type == "autofs") return path;

  struct stat attributes {};
  if (::lstat(path.c_str(), &attributes) != 0) return fail(Error::last().within(quote(path)));
  if (!S_ISDIR(attributes.st_mode)) {
    return fail(ENOTDIR, "the namespace " + quote(path) + " is not a directory");
  }
  TRY_VOID(check_empty(path));
  return path;
}

Result<NamespaceMount> mount_namespace(int device, const std::string& directory) {
  const bool stale = TRY(is_stale(directory));
  TRY_VOID(stale ? replace_stale(device, directory) : mount_on_empty(device, directory));
  const std::optional<sys::MountEntry> there = TRY(sys::find_mount(directory));
  if (!there || there->type != kNamespaceType) {
    return fail(EBUSY, "the namespace at " + quote(directory) + " was covered by another mount at once");
  }
  allow_dirty_pages(directory);
  return NamespaceMount{.id = TRY(mount_id_at(AT_FDCWD, directory)), .table_id = there->id};
}

Result<bool> is_namespace_mounted(const NamespaceMount& mount, const std::string& directory) {
  if (mount.mounter) return mount.mounter->is_mounted(directory);
  if (mount_id_at(AT_FDCWD, directory).value_or(0) == mount.id) return true;
  const std::vector<sys::MountEntry> table = TRY(sys::read_mount_table());
  return std::any_of(table.begin(), table.end(), [&](const sys::MountEntry& entry) {
    return entry.id == mount.table_id && entry.type == kNamespaceType;
  });
}

void abort_namespace(const NamespaceMount& mount) {
  if (mount.mounter) return;  // it ends with the last descriptor of the device
  const Result<std::string> path = path_of(mount);
  if (!path || path->empty()) return;
  const Result<UniqueFd> root = sys::open_at(AT_FDCWD, path->c_str(), O_PATH | O_NOFOLLOW);
  if (!root || mount_id_at(root->get(), "").value_or(0) != mount.id) return;
  // umount2(2): MNT_FORCE aborts the connection first. The descriptor makes the unmount itself EBUSY.
  static_cast<void>(sys::unmount(*path, MNT_FORCE));
}

Result<bool> unmount_namespace(const NamespaceMount& mount, const std::string& directory) {
  if (mount.mounter) return mount.mounter->unmount(directory);
  const std::string path = TRY(path_of(mount));
  if (path.empty()) return false;
  if (::umount2(path.c_str(), UMOUNT_NOFOLLOW) == 0) return false;
  if (errno == EINVAL) return false;  // another process has unmounted it first
  if (errno != EBUSY) return fail(Error::last().within("cannot unmount " + quote(path)));
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL) {
    return fail(Error::last().within("cannot detach " + quote(path)));
  }
  return true;
}

}  // namespace berth::daemon
