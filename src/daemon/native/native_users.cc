#include "src/daemon/native/native_users.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>

#include "src/daemon/common/namespace_mount.h"
#include "src/lib/sys/proc.h"

namespace berth::daemon {
namespace {

namespace proc = sys::proc;

/// The mount of what a link of /proc leads to, by its unique id, without asking the file system; 0: not known.
std::uint64_t mount_of_link(const std::string& path) {
  struct statx file {};
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, kStatxMountIdUnique, &file) != 0) return 0;
  return (file.stx_mask & kStatxMountIdUnique) != 0 ? file.stx_mnt_id : 0;
}

/// The mounts that a process uses, some of them when there is no time for all.
struct Used {
  std::set<std::uint64_t> mounts;
  bool is_complete = false;
};
Used mounts_used_by(pid_t process, TimePoint until) {
  Used used;
  for (const char* const link : {"cwd", "root"}) used.mounts.insert(mount_of_link(proc::path_of(process, link)));
  // The files that are mapped, its program among them, have ranges of addresses for names.
  for (const char* const directory : {"fd", "map_files"}) {
    std::error_code error;
    const std::filesystem::directory_iterator end;
    for (std::filesystem::directory_iterator entry(proc::path_of(process, directory), error); !error && entry != end;
         entry.increment(error)) {
      if (SystemClock().now() >= until) return used;
      used.mounts.insert(mount_of_link(entry->path().native()));
    }
  }
  used.is_complete = true;
  return used;
}

}  // namespace

std::map<uid_t, std::vector<pid_t>> processes_by_user() {
  std::map<uid_t, std::vector<pid_t>> found;
  for (const pid_t process : proc::numbers_in("/proc")) {
    const std::string status = proc::read(proc::path_of(process, "status")).value_or("");
    const std::string user(proc::field_of(status, "Uid"));
    if (!user.empty()) found[static_cast<uid_t>(std::strtoul(user.c_str(), nullptr, 10))].push_back(process);
  }
  return found;
}

UsersOfMounts count_users_of(const std::vector<std::uint64_t>& mounts, const std::vector<pid_t>& processes,
                             TimePoint until) {
  UsersOfMounts found{.users = std::vector<std::size_t>(mounts.size())};
  for (const pid_t process : processes) {
    const Used used = mounts_used_by(process, until);
    found.is_complete = found.is_complete && used.is_complete;
    for (std::size_t i = 0; i < mounts.size(); ++i) found.users[i] += used.mounts.contains(mounts[i]) ? 1U : 0U;
  }
  return found;
}

}  // namespace berth::daemon
