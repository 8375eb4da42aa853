#include "fuse/callers/path_calls.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string>

#include "src/lib/base/hash.h"
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
/// Calls that have a path, and ask for the attributes of a directory in it only to go in: open(2) with those that make
/// or take off a name. Not those that may end at the directory itself and then hand an error on, as
/// inotify_add_watch(2).
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

/// "[<0>] path_openat+0x1d/0x2c0", of a function that GCC may have made a part of: "path_openat.isra.0".
std::string_view function_in(std::string_view line) noexcept {
  const std::size_t name = line.find(' ');
  if (name == std::string_view::npos) return {};
  line.remove_prefix(name + 1);
  return line.substr(0, line.find_first_of(".+"));
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

std::uint64_t call_of(pid_t thread) {
  const ThreadActivity activity = activity_of_caller(thread);
  if (activity.kind == ThreadActivity::Kind::kRunning) return kCallNotSeen;
  if (activity.call < 0) return kNoCall;
  std::array<std::uint64_t, 2 + std::tuple_size_v<decltype(activity.arguments)>> words{
      static_cast<std::uint64_t>(activity.call), activity.stack_pointer};
  std::copy(activity.arguments.begin(), activity.arguments.end(), words.begin() + 2);
  const std::uint64_t digest = fnv1a({reinterpret_cast<const char*>(words.data()), sizeof words});
  return std::max(digest, kCallNotSeen + 1);
}

std::optional<PathWalk> path_walk_in(std::string_view stack) {
  // The outermost of these is what is begun once for each walk.
  constexpr std::array<std::string_view, 4> kWalks{"path_openat", "path_lookupat", "path_parentat", "link_path_walk"};
  PathWalk walk{};
  std::size_t begins = std::string_view::npos;  // what is outside of the walk
  for (std::size_t at = 0, end = 0; at < stack.size(); at = end + 1) {
    end = std::min(stack.find('\n', at), stack.size());
    const std::string_view function = function_in(stack.substr(at, end - at));
    if (function == "fuse_dentry_revalidate") walk.asks_again = true;
    if (std::find(kWalks.begin(), kWalks.end(), function) != kWalks.end()) begins = end + 1;
  }
  if (begins >= stack.size()) return std::nullopt;
  walk.begun_at = fnv1a(stack.substr(begins));
  return walk;
}

std::optional<PathWalk> path_walk_of(pid_t thread) {
  if (activity_of_caller(thread).kind != ThreadActivity::Kind::kWaiting) return std::nullopt;
  const Result<std::string> stack = sys::kernel_stack_of(thread);
  return stack ? path_walk_in(*stack) : std::nullopt;
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
