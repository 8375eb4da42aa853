#include "src/daemon/walkers.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <thread>

#include "src/base/result.h"
#include "src/sys/other_threads.h"

namespace berth::daemon {
namespace {

using sys::ThreadActivity;

#ifdef SYS_rename
constexpr std::array kWalkTwice{SYS_rename, SYS_renameat, SYS_renameat2, SYS_link, SYS_linkat};
#else
constexpr std::array kWalkTwice{SYS_renameat, SYS_renameat2, SYS_linkat};
#endif

/// A walk along a path of PATH_MAX takes less than half a millisecond, unless it has to wait.
constexpr std::chrono::milliseconds kLongerThanAWalk{2};
constexpr std::chrono::milliseconds kLookAgain{1};
/// One that waits in we may not know what (it is in a user namespace above ours, or a worker of io_uring) is taken to have
/// moved on after this; between its walks it has nothing to wait for but us.
constexpr std::chrono::milliseconds kUnknownPatience{20};

bool walks_twice(long call) noexcept {
  return std::find(kWalkTwice.begin(), kWalkTwice.end(), call) != kWalkTwice.end();
}

}  // namespace

Walkers::Walkers(const std::vector<pid_t>& threads) {
  walkers_.reserve(threads.size());
  for (const pid_t thread : threads) walkers_.push_back({thread});
}

Walkers Walkers::all() { return Walkers(sys::other_threads()); }

bool Walkers::has_moved_on(Walker& walker, TimePoint now) {
  const ThreadActivity activity = sys::activity_of(walker.thread);
  if (activity.kind == ThreadActivity::Kind::kGone) return true;
  if (activity.kind == ThreadActivity::Kind::kWaiting) {
    if (activity.call >= 0) return !walks_twice(activity.call);
    if (!walker.waits_since) walker.waits_since = now;
    return now - *walker.waits_since >= kUnknownPatience;
  }
  walker.waits_since.reset();
  const Result<std::chrono::nanoseconds> used = sys::cpu_time_of(walker.thread);
  if (!used) return false;
  if (!walker.cpu_time) {
    if (sys::is_kernel_thread(walker.thread)) return true;
    walker.cpu_time = *used;
  }
  return *used - *walker.cpu_time >= kLongerThanAWalk;
}

bool Walkers::have_moved_on(TimePoint deadline) {
  for (;;) {
    const TimePoint now = SystemClock().now();
    std::erase_if(walkers_, [now](Walker& walker) { return has_moved_on(walker, now); });
    if (walkers_.empty()) return true;
    if (now >= deadline) return false;
    std::this_thread::sleep_for(kLookAgain);
  }
}

bool may_walk_twice(pid_t thread) {
  if (thread == 0) return true;
  const ThreadActivity activity = sys::activity_of(thread);
  return activity.kind != ThreadActivity::Kind::kWaiting || activity.call < 0 || walks_twice(activity.call);
}

}  // namespace berth::daemon
