#include "src/lib/sys/user_namespace.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <memory>
#include <set>

#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/proc.h"

namespace berth::sys {
namespace {

Result<> write_to(const char* path, const std::string& text) {
  const UniqueFd file = TRY(open_at(AT_FDCWD, path, O_WRONLY));
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return fail_errno();
  return {};
}

/// Makes a user namespace in which the process's only user and group are `user` and `group`.
Result<> unshare_user_namespace(int flags, uid_t user, gid_t group) {
  const std::string outer_user = std::to_string(::geteuid());
  const std::string outer_group = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER | flags) != 0) return fail_errno();
  // Without it, a process could shed a group that a file's mode excludes.
  TRY_VOID(write_to("/proc/self/setgroups", "deny"));
  TRY_VOID(write_to("/proc/self/uid_map", std::to_string(user) + " " + outer_user + " 1"));
  return write_to("/proc/self/gid_map", std::to_string(group) + " " + outer_group + " 1");
}

bool is_of_this_user(pid_t process) {
  struct stat attributes {};
  return ::stat(("/proc/" + std::to_string(process)).c_str(), &attributes) == 0 && attributes.st_uid == ::geteuid();
}

}  // namespace

Result<> become_own_root() {
  if (const Result<> made = unshare_user_namespace(CLONE_NEWNS, 0, 0); !made) {
    return fail(
        made.error().within("without root, berth needs a user namespace of its own, which this system refuses (sysctl "
                            "user.max_user_namespaces, "
                            "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; in a "
                            "container, its seccomp profile)"));
  }
  if (::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0) return fail_errno();
  return {};
}

bool is_in_initial_user_namespace() {
  return proc::link_target("/proc/self/ns/user") == "user:[4026531837]";  // PROC_USER_INIT_INO, include/linux/proc_ns.h
}

bool is_own_root() {
  const std::string map = proc::read("/proc/self/uid_map").value_or("");
  std::string_view line(map);
  if (line.ends_with('\n')) line.remove_suffix(1);
  return line.find('\n') == std::string_view::npos && line.substr(line.find_last_of(' ') + 1) == "1";
}

namespace {

/// The second number of the first line (user_namespaces(7)).
std::uint32_t outer_id(const char* path) {
  const std::string map = proc::read(path).value_or("");
  const std::size_t begin = map.find_first_not_of(' ', map.find(' ', map.find_first_not_of(' ')));
  std::uint32_t id = 0;
  if (begin != std::string::npos) std::from_chars(map.data() + begin, map.data() + map.size(), id);
  return id;
}

}  // namespace

uid_t outer_user() { return outer_id("/proc/self/uid_map"); }
gid_t outer_group() { return outer_id("/proc/self/gid_map"); }

std::vector<OwnMount> find_own_mounts(std::string_view type) {
  const std::string own = proc::link_target("/proc/self/ns/user");
  std::set<std::string> seen{proc::link_target("/proc/self/ns/mnt")};
  // A mount namespace begins as a copy of the one that it is made in, so it has the file systems of the host as well.
  std::set<std::uint64_t> devices;
  for (const MountEntry& mount : read_mount_table().value_or(std::vector<MountEntry>())) devices.insert(mount.device);
  std::vector<OwnMount> found;
  for (const pid_t process : proc::numbers_in("/proc")) {
    if (!is_of_this_user(process)) continue;
    const std::string users = proc::link_target(proc::path_of(process, "ns/user"));
    const std::string mounts = proc::link_target(proc::path_of(process, "ns/mnt"));
    // One that cannot be read is of a process with more rights than this one, which can then not go there either.
    if (users.empty() || mounts.empty() || users == own || !seen.insert(mounts).second) continue;
    const Result<std::vector<MountEntry>> table = read_mount_table(process);
    if (!table) continue;
    for (const MountEntry& mount : *table) {
      if (mount.type == type && mount.root == "/" && devices.insert(mount.device).second)
        found.push_back({.process = process, .target = mount.target});
    }
  }
  return found;
}

Result<> enter_namespaces_of(pid_t process) {
  const UniqueFd mounts = TRY(open_at(AT_FDCWD, proc::path_of(process, "ns/mnt").c_str(), O_RDONLY));
  const UniqueFd users(::ioctl(mounts.get(), NS_GET_USERNS));
  if (!users) return fail_errno();
  const std::unique_ptr<char, decltype(&std::free)> here(::get_current_dir_name(), &std::free);
  if (::setns(users.get(), CLONE_NEWUSER) != 0 || ::setns(mounts.get(), CLONE_NEWNS) != 0) return fail_errno();
  if (here == nullptr || ::chdir(here.get()) != 0) return ::chdir("/") == 0 ? Result<>() : fail_errno();
  return {};
}

Result<> show_ids(uid_t user, gid_t group) { return unshare_user_namespace(0, user, group); }

}  // namespace berth::sys
