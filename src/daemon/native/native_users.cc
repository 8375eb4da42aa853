#include "src/daemon/native/native_users.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "src/daemon/common/namespace_mount.h"
#include "src/lib/sys/proc.h"

namespace berth::daemon {
namespace {

namespace proc = sys::proc;
using Kind = UseOfMount::Kind;

/// Noted of one process at most: it may have a hundred thousand files open.
constexpr std::size_t kMostOfProcess = 16;
constexpr std::size_t kLongestPath = 1024;

/// Whether the user may look at the files of the process, by what the kernel shows (proc(5), "dumpable").
bool is_owned_by(pid_t process, uid_t user) {
  struct stat files {};
  return ::stat(proc::path_of(process, "fd").c_str(), &files) == 0 && files.st_uid == user;
}

class Search {
 public:
  Search(const std::vector<std::uint64_t>& mounts, uid_t user, TimePoint until, UsesWanted wanted)
      : user_(user), until_(until), wanted_(wanted) {
    for (std::size_t i = 0; i < mounts.size(); ++i) index_of_.emplace(mounts[i], i);
    found_.in.resize(mounts.size());
  }

  void look_at(pid_t process) {
    users_own_ = {};
    command_ = {};
    noted_.clear();
    used_.clear();
    for (const char* const link : {"cwd", "root"})
      look_at_link(process, proc::path_of(process, link), Kind::kDirectory);
    // The files that are mapped, its program among them, have ranges of addresses for names.
    const bool in_time =
        look_at_links(process, "fd", Kind::kFile) && look_at_links(process, "map_files", Kind::kMapping);
    found_.is_complete = found_.is_complete && in_time;
    for (const std::size_t mount : used_) ++found_.in[mount].processes;
    // It may have begun to run another program since.
    if (noted_.empty() || !users_own_.value_or(false) || is_owned_by(process, user_)) return;
    for (const std::size_t mount : used_) {
      for (UseOfMount& use : found_.in[mount].uses) {
        if (use.pid == process) use.is_users_own = false;
      }
    }
  }

  [[nodiscard]] UsersOfMounts found() && { return std::move(found_); }

 private:
  bool look_at_links(pid_t process, const char* directory, Kind kind) {
    std::error_code error;
    const std::filesystem::directory_iterator end;
    for (std::filesystem::directory_iterator entry(proc::path_of(process, directory), error); !error && entry != end;
         entry.increment(error)) {
      if (SystemClock().now() >= until_) return false;
      look_at_link(process, entry->path().native(), kind);
    }
    return true;
  }

  /// Asks no file system.
  void look_at_link(pid_t process, const std::string& path, Kind kind) {
    struct statx file {};
    constexpr unsigned kWanted = kStatxMountIdUnique | STATX_TYPE;
    if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, kWanted, &file) != 0) return;
    if ((file.stx_mask & kStatxMountIdUnique) == 0) return;
    const auto mount = index_of_.find(file.stx_mnt_id);
    if (mount == index_of_.end()) return;
    used_.insert(mount->second);
    note(mount->second, process, path, kind == Kind::kFile && S_ISDIR(file.stx_mode) ? Kind::kDirectory : kind);
  }

  void note(std::size_t mount, pid_t process, const std::string& link, Kind kind) {
    UsersOfMounts::In& in = found_.in[mount];
    if (count_ >= wanted_.most || noted_.size() >= kMostOfProcess) {
      ++in.left_out;
      return;
    }
    std::string path = proc::link_target(link);
    if (!noted_.emplace(mount, kind, path).second) return;
    ++count_;
    if (!users_own_) users_own_ = is_owned_by(process, user_);
    if (!command_) command_ = proc::command_of(process);
    if (path.size() > kLongestPath) path.erase(0, path.size() - kLongestPath);
    const bool has_room = names_ + path.size() <= wanted_.most_of_names;
    if (!has_room) path.clear();
    names_ += path.size();
    in.uses.push_back({.pid = process,
                       .uid = user_,
                       .command = *command_,
                       .kind = kind,
                       .path = std::move(path),
                       .is_users_own = *users_own_});
  }

  const uid_t user_;
  const TimePoint until_;
  const UsesWanted wanted_;
  std::unordered_map<std::uint64_t, std::size_t> index_of_;
  UsersOfMounts found_;
  std::size_t count_ = 0;
  std::size_t names_ = 0;

  // Of one process.
  std::optional<bool> users_own_;
  std::optional<std::string> command_;
  std::set<std::tuple<std::size_t, Kind, std::string>> noted_;
  std::set<std::size_t> used_;
};

}  // namespace

Duration processor_time() {
  struct timespec time {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::map<uid_t, std::vector<pid_t>> processes_by_user() {
  std::map<uid_t, std::vector<pid_t>> found;
  for (const pid_t process : proc::numbers_in("/proc")) {
    const std::string status = proc::read(proc::path_of(process, "status")).value_or("");
    const std::string user(proc::field_of(status, "Uid"));
    if (!user.empty()) found[static_cast<uid_t>(std::strtoul(user.c_str(), nullptr, 10))].push_back(process);
  }
  return found;
}

UsersOfMounts find_users_of(const std::vector<std::uint64_t>& mounts, uid_t user, const std::vector<pid_t>& processes,
                            TimePoint until, UsesWanted wanted) {
  const Duration begun = processor_time();
  Search search(mounts, user, until, wanted);
  for (const pid_t process : processes) search.look_at(process);
  UsersOfMounts found = std::move(search).found();
  found.cost = processor_time() - begun;
  return found;
}

}  // namespace berth::daemon
