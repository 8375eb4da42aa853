#include "fuse/callers/path_calls.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "src/lib/sys/other_threads.h"

namespace berth::fuse {
namespace {

using sys::ThreadActivity;

// What newer kernels have than Debian 12's headers know; the same on all architectures.
constexpr long kFchmodat2 = 452;
constexpr long kSetxattrat = 463;
constexpr long kGetxattrat = 464;
constexpr long kListxattrat = 465;
constexpr long kRemovexattrat = 466;
constexpr long kFileGetattr = 468;
constexpr long kFileSetattr = 469;
constexpr long kOpenTreeAttr = 467;

// A 32-bit program's numbers are other calls'. So what is here must not be the number of one that ends at a descriptor
// or makes a name there: name_to_handle_at(2) is linkat(2), lchown(2) is fchmod(2) on i386.
constexpr auto kWalksAnywhere = std::to_array<long>({
    SYS_openat,
    SYS_openat2,
    SYS_execve,
    SYS_execveat,
    SYS_newfstatat,
    SYS_statx,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_chdir,
    SYS_chroot,
    SYS_fchmodat,
    kFchmodat2,
    SYS_fchownat,
    SYS_utimensat,
    SYS_truncate,
    SYS_statfs,
    SYS_readlinkat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_getxattr,
    SYS_lgetxattr,
    SYS_listxattr,
    SYS_llistxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    kSetxattrat,
    kGetxattrat,
    kListxattrat,
    kRemovexattrat,
    kFileGetattr,
    kFileSetattr,
    SYS_unlinkat,
    SYS_mount,
    SYS_umount2,
    SYS_open_tree,
    kOpenTreeAttr,
    SYS_move_mount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_pivot_root,
    SYS_inotify_add_watch,
    SYS_fanotify_mark,
    SYS_connect,
    SYS_sendto,
    SYS_sendmsg,
    SYS_swapon,
    SYS_acct,
    SYS_quotactl,
#ifdef SYS_open
    SYS_open,
    SYS_creat,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_chmod,
    SYS_chown,
    SYS_utime,
    SYS_utimes,
    SYS_futimesat,
    SYS_readlink,
    SYS_unlink,
    SYS_rmdir,
#endif
});
/// The same, whose numbers are those of other calls in a 32-bit program.
constexpr auto kWalksAnywhere64 = std::to_array<long>({
    SYS_name_to_handle_at,
#ifdef SYS_lchown
    SYS_lchown,
#endif
});
constexpr auto kWalksAtItsEnd = std::to_array<long>({
    SYS_mkdirat,
    SYS_mknodat,
    SYS_symlinkat,
    SYS_linkat,
    SYS_renameat2,
#ifdef SYS_renameat
    SYS_renameat,
#endif
#ifdef SYS_rename
    SYS_mkdir,
    SYS_mknod,
    SYS_symlink,
    SYS_link,
    SYS_rename,
#endif
});
constexpr auto kOfPath = std::to_array<long>({
    SYS_fchmodat,     kFchmodat2,    SYS_fchownat, SYS_utimensat, SYS_truncate,   SYS_statfs,     SYS_readlinkat,
    SYS_setxattr,     SYS_lsetxattr, SYS_getxattr, SYS_lgetxattr, SYS_listxattr,  SYS_llistxattr, SYS_removexattr,
    SYS_lremovexattr, kSetxattrat,   kGetxattrat,  kListxattrat,  kRemovexattrat,
#ifdef SYS_open
    SYS_chmod,        SYS_chown,     SYS_utime,    SYS_utimes,    SYS_futimesat,  SYS_readlink,
#endif
});
/// Where the kernel asks for attributes to decide whether the caller may walk on.
constexpr auto kLooksOnItsWay = std::to_array<long>({
    SYS_openat,
    SYS_openat2,
    SYS_execve,
    SYS_faccessat,
    SYS_chdir,
    SYS_chroot,
    SYS_truncate,
#ifdef SYS_open
    SYS_open,
    SYS_creat,
    SYS_access,
#endif
});
/// Calls that have a path, and ask for the attributes of a directory in it only to go in: open(2) with those that make or take off
/// a name. Not those that may end at the directory itself and then hand an error on, as inotify_add_watch(2).
constexpr auto kGoesIn = std::to_array<long>({
    SYS_openat,
    SYS_openat2,
    SYS_execve,
    SYS_truncate,
    SYS_unlinkat,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_symlinkat,
    SYS_connect,
#ifdef SYS_open
    SYS_open,
    SYS_creat,
    SYS_unlink,
    SYS_rmdir,
    SYS_mkdir,
    SYS_mknod,
    SYS_symlink,
#endif
});
constexpr auto kWatches = std::to_array<long>({SYS_inotify_add_watch, SYS_fanotify_mark});
constexpr auto kWatches32 = std::to_array<long>({292, 339});  // of i386
/// rename(2), link(2), linkat(2), renameat(2), renameat2(2) of 32-bit programs (i386).
constexpr auto kWalksTwice32 = std::to_array<long>({9, 38, 302, 303, 353});
constexpr auto kWalksTwice = std::to_array<long>({
    SYS_linkat,
    SYS_renameat2,
#ifdef SYS_renameat
    SYS_renameat,
#endif
#ifdef SYS_rename
    SYS_link,
    SYS_rename,
#endif
});

template <std::size_t N>
bool contains(const std::array<long, N>& calls, long call) noexcept {
  return std::find(calls.begin(), calls.end(), call) != calls.end();
}

bool walks_twice(const ThreadActivity& activity) noexcept {
  return activity.is_32_bit ? contains(kWalksTwice32, activity.call) : contains(kWalksTwice, activity.call);
}

/// Of one that has asked us for something, and goes to sleep for the answer in a moment.
ThreadActivity activity_of_caller(pid_t thread) {
  constexpr int kLooks = 100;
  ThreadActivity activity = sys::activity_of(thread);
  for (int i = 0; i < kLooks && activity.kind == ThreadActivity::Kind::kRunning; ++i) {
    ::sched_yield();
    activity = sys::activity_of(thread);
  }
  return activity;
}

}  // namespace

PathCall path_call_of(pid_t thread) {
  const ThreadActivity activity = activity_of_caller(thread);
  const long call = activity.call;
  if (call < 0) return sys::is_kernel_thread(thread) ? PathCall::kNowhere : PathCall::kAtItsEnd;
  if (contains(kWalksAnywhere, call)) return PathCall::kAnywhere;
  if (!activity.is_32_bit && contains(kWalksAnywhere64, call)) return PathCall::kAnywhere;
  return contains(kWalksAtItsEnd, call) ? PathCall::kAtItsEnd : PathCall::kNowhere;
}

bool is_of_path(pid_t thread) {
  const ThreadActivity activity = activity_of_caller(thread);
#ifdef SYS_lchown
  if (!activity.is_32_bit && activity.call == SYS_lchown) return true;
#endif
  if (!contains(kOfPath, activity.call)) return false;
  // futimens(2) has no path.
  bool may_have_none = activity.call == SYS_utimensat;
#ifdef SYS_futimesat
  may_have_none = may_have_none || activity.call == SYS_futimesat;
#endif
  return !may_have_none || activity.arguments[1] != 0;
}

bool is_stat_of_path(pid_t thread) {
  const ThreadActivity activity = activity_of_caller(thread);
  const auto has_path = [&](long call, std::size_t flags) {
    return activity.call == call && (activity.arguments[flags] & AT_EMPTY_PATH) == 0;
  };
  return has_path(SYS_newfstatat, 3) || has_path(SYS_statx, 2) || has_path(SYS_faccessat2, 3) ||
         contains(kLooksOnItsWay, activity.call);
}

RootCall await_root_call_of(pid_t thread) {
  constexpr std::chrono::milliseconds kPatience{50};
  const auto until = std::chrono::steady_clock::now() + kPatience;
  RootCall call = root_call_of(thread);
  while (call == RootCall::kUnknown && std::chrono::steady_clock::now() < until) call = root_call_of(thread);
  return call;
}

RootCall root_call_of(pid_t thread) {
  const ThreadActivity activity = activity_of_caller(thread);
  if (activity.kind == ThreadActivity::Kind::kRunning) return RootCall::kUnknown;
  if (walks_twice(activity)) return RootCall::kWalksTwice;
  if (activity.is_32_bit) return contains(kWatches32, activity.call) ? RootCall::kWatches : RootCall::kLooks;
  if (contains(kWatches, activity.call)) return RootCall::kWatches;
  if (activity.call == SYS_bind) return RootCall::kMakesNode;
  return contains(kGoesIn, activity.call) ? RootCall::kWalks : RootCall::kLooks;
}

bool may_be_walking(pid_t thread) {
  const ThreadActivity activity = sys::activity_of(thread);
  if (activity.kind != ThreadActivity::Kind::kWaiting) return activity.kind == ThreadActivity::Kind::kRunning;
  return activity.is_32_bit || activity.call == SYS_bind || contains(kWalksAnywhere, activity.call) ||
         contains(kWalksAtItsEnd, activity.call);
}

bool may_be_between_walks(pid_t thread) {
  const ThreadActivity activity = sys::activity_of(thread);
  if (activity.kind == ThreadActivity::Kind::kRunning) return true;
  return activity.kind == ThreadActivity::Kind::kWaiting && walks_twice(activity);
}

}  // namespace berth::fuse
