#include "fuse/shares/root_questions.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "src/lib/sys/other_threads.h"

namespace berth::fuse {
namespace {

constexpr int kAll = R_OK | W_OK | X_OK;

template <std::size_t N>
bool is_one_of(long call, const std::array<long, N>& calls) {
  return std::find(calls.begin(), calls.end(), call) != calls.end();
}

constexpr std::array kLooking{
#ifdef SYS_stat
    long{SYS_stat}, long{SYS_lstat},
#endif
    long{SYS_newfstatat}, long{SYS_fstat}, long{SYS_statx}};
// These end at a directory and ask nothing more of it.
constexpr std::array kEntering{long{SYS_chdir}, long{SYS_fchdir}, long{SYS_chroot}};
constexpr std::array kReading{long{SYS_getxattr},          long{SYS_lgetxattr},    long{SYS_fgetxattr},
                              long{SYS_listxattr},         long{SYS_llistxattr},   long{SYS_flistxattr},
                              long{SYS_inotify_add_watch}, long{SYS_fanotify_mark}};

/// Looks at the caller until it waits for the answer, which it is about to.
sys::ThreadActivity activity_of_asker(pid_t thread) {
  constexpr int kLooks = 200;
  sys::ThreadActivity activity = sys::activity_of(thread);
  for (int i = 0; i < kLooks && activity.kind == sys::ThreadActivity::Kind::kRunning; ++i) {
    ::sched_yield();
    activity = sys::activity_of(thread);
  }
  return activity;
}

}  // namespace

int permissions_wanted(const sys::Identity& caller, bool is_believed) {
  const int unknown = is_believed ? kAll : 0;
  if (caller.pid <= 0) return unknown;
  const sys::AsDaemon as_daemon;
  const sys::ThreadActivity activity = activity_of_asker(caller.pid);
  if (activity.call < 0 || activity.is_32_bit) return unknown;
  // Of something in the directory, if it was refused.
  if (is_one_of(activity.call, kLooking)) return is_believed ? X_OK : 0;
  if (is_one_of(activity.call, kEntering)) return X_OK;
  if (is_one_of(activity.call, kReading)) return R_OK | X_OK;
  switch (activity.call) {
#ifdef SYS_access
    case SYS_access:
      return static_cast<int>(activity.arguments[1] & kAll) | X_OK;
#endif
    case SYS_faccessat:
    case SYS_faccessat2:
      return static_cast<int>(activity.arguments[2] & kAll) | X_OK;
    default:
      return kAll;
  }
}

bool grants(const struct stat& root, bool has_list, const sys::Identity& caller, int permissions) {
  if (permissions == 0 || caller.uid == 0) return true;
  const auto wanted = static_cast<mode_t>(permissions);
  if (caller.uid == root.st_uid) return (root.st_mode >> 6 & wanted) == wanted;
  if (has_list) return false;
  const auto is_member = [&] {
    const std::vector<gid_t> groups = sys::groups_of(caller);
    return std::find(groups.begin(), groups.end(), root.st_gid) != groups.end();
  };
  const bool in_group = caller.gid == root.st_gid || (caller.pid > 0 && is_member());
  return ((in_group ? root.st_mode >> 3 : root.st_mode) & wanted) == wanted;
}

}  // namespace berth::fuse
