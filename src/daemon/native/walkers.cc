#include "src/daemon/native/walkers.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <thread>
#include <utility>

#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/thread.h"

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
constexpr std::chrono::milliseconds kUnknownPatience{5};
/// How long who looks may take to come back after the deadline.
constexpr std::chrono::milliseconds kLookPatience{50};

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
    if (!walker.waits_since) {
      if (sys::is_kernel_thread(walker.thread)) return true;
      walker.waits_since = now;
    }
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

bool Walkers::waits_elsewhere(Walker& walker, TimePoint /*now*/) {
  if (walker.thread == 0) return false;
  const ThreadActivity activity = sys::activity_of(walker.thread);
  return activity.kind == ThreadActivity::Kind::kWaiting && activity.call >= 0 && !walks_twice(activity.call);
}

struct Walkers::Round {
  std::vector<Walker> walkers;  ///< of the thread that looks until it is over
  Mutex mutex;
  ConditionVariable ended;
  bool over BERTH_GUARDED_BY(mutex) = false;
};

void Walkers::look(Round& round, IsFine is_fine, TimePoint deadline) {
  try {
    for (;;) {
      const TimePoint now = SystemClock().now();
      std::erase_if(round.walkers, [&](Walker& walker) { return is_fine(walker, now); });
      if (round.walkers.empty() || now >= deadline) break;
      std::this_thread::sleep_for(kLookAgain);
    }
  } catch (const std::exception&) {
    // Who is left has not moved on, as far as is known.
  }
  MutexLock lock(round.mutex);
  round.over = true;
  round.ended.notify_all();
}

bool Walkers::start_round(IsFine is_fine, TimePoint deadline) {
  const auto round = std::make_shared<Round>();
  round->walkers = walkers_;
  Result<std::thread> looking = sys::start_thread("berth-walkers", [=] { look(*round, is_fine, deadline); });
  if (!looking) return false;
  looking->detach();
  round_ = round;
  return true;
}

/// False when who looks is not back, or not all are fine.
bool Walkers::end_round(TimePoint deadline) {
  {
    MutexLock lock(round_->mutex);
    const TimePoint last = deadline + kLookPatience;
    while (!round_->over && SystemClock().now() < last) round_->ended.wait_until(round_->mutex, last);
    if (!round_->over) return false;
  }
  walkers_ = std::move(round_->walkers);
  round_.reset();
  return walkers_.empty();
}

bool Walkers::have_moved_on(TimePoint deadline) {
  if (walkers_.empty() && round_ == nullptr) return true;
  if (round_ == nullptr && !start_round(&has_moved_on, deadline)) return false;
  return end_round(deadline);
}

bool Walkers::walk_once(TimePoint deadline) {
  if (walkers_.empty() && round_ == nullptr) return true;
  constexpr TimePoint kOnce{};  // long ago
  if (round_ == nullptr && !start_round(&waits_elsewhere, kOnce)) return false;
  return end_round(deadline);
}

}  // namespace berth::daemon
