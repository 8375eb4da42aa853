#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "fuse/workers/workers.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/scheduling.h"

// Workers: how many serve, and which of them are starved of their CPU.
namespace berth::fuse {
namespace {

/// How long a worker stays unpinned after a caller has waited for it in vain. It doubles, up to the longer one, when
/// that happens again soon.
constexpr std::chrono::milliseconds kBackoff{50};
constexpr std::chrono::milliseconds kLongestBackoff{1600};

/// A request that has waited this long in a queue becomes orphaned: any worker may take it.
constexpr std::chrono::milliseconds kLateQueued{2};

/// After so many rounds without anything new the monitor sleeps.
constexpr unsigned kQuietRounds = 50;
/// A worker is starved when a caller waits for it in so many rounds in a row. In one round alone it may be about to
/// run.
constexpr unsigned kStarvedRounds = 2;
/// Callers alternate when at least one request in so many comes from another caller than the one before.
constexpr std::uint64_t kRequestsPerChange = 4;
/// Requests block when, three times within some ten rounds, a worker was blocked while a request waited.
constexpr unsigned kBlockedCounts = 4;
constexpr unsigned kBlocking = 9;

/// Whether a worker's request is stuck in a share: the worker does not count until it comes back.
bool is_stuck(const RequestSlot* slot) noexcept { return slot != nullptr && slot->stuck != nullptr; }

}  // namespace

void Workers::wake_monitor() noexcept {
  MutexLock lock(mutex_);
  monitoring_ = true;
  changed_.notify_all();
}

void Workers::monitor() noexcept {
  const std::uint64_t claimed = taken_;
  const bool progressed = std::exchange(seen_, claimed) != claimed;
  const bool request_waits = has_request();
  const bool is_untaken = request_waits && waiting_ == 0;
  worker_wanted_on_ = kNoCpu;  // a worker that was woken for it has claimed that CPU by now, or has not come
  std::size_t busy = 0;
  std::size_t blocked = 0;
  bool requests_block = false;
  bool callers_alternate = false;
  for (Worker* const worker : all_workers()) {
    const std::uint64_t news = worker->taken - std::exchange(worker->seen, worker->taken);
    const std::uint64_t caller_changes =
        worker->caller_changes - std::exchange(worker->seen_caller_changes, worker->caller_changes);
    callers_alternate |= caller_changes * kRequestsPerChange > news;
    check_starved(*worker, news != 0, request_waits);
    if (!worker->handling || is_stuck(worker->slot)) continue;
    ++busy;
    if (!is_untaken || !is_blocked(*worker)) continue;
    ++blocked;
    requests_block |= !worker->locating;
    release(*worker);
  }
  // The worker of the queue, and all others, may sleep or be stuck.
  queues_.orphan_late(std::chrono::steady_clock::now(), kLateQueued);
  if (queues_.has_orphaned()) wake_or_start_worker();
  note_blocked(requests_block);
  check_all_resent_read(request_waits);
  if (!is_untaken) return pause_if_quiet(progressed);
  // One worker serves a caller that sends one request after another best, so a waiting request alone is no reason for a
  // second one.
  const std::size_t enough = callers_alternate ? std::max<std::size_t>(cpu_count_ - 1, 1) : 1;
  std::size_t wanted = 0;
  if (busy == 0) {
    wanted = progressed ? 0 : 1;  // the worker that is to take it is on its way
  } else if (blocked == busy) {
    wanted = busy;
  } else if (busy - blocked < enough) {
    wanted = 1;
  }
  for (std::size_t i = 0; i < wanted; ++i) wake_or_start_worker();
}

/// The kernel sends resent requests before all others (FUSE_NOTIFY_RESEND). First no request waits in the device. Then
/// each read that was under way at that time returns. After that, all resent requests are read, except those whose
/// callers were killed before.
void Workers::check_all_resent_read(bool request_waits) noexcept {
  if (!requests_.has_interrupted() || (!resend_queue_empty_ && request_waits)) return;
  const std::vector<Worker*> workers = all_workers();
  if (!std::exchange(resend_queue_empty_, true)) {
    for (Worker* const worker : workers) {
      const std::uint64_t claimed = worker->taken;
      if (worker->reading) worker->taken_before_read = claimed;
    }
    return;
  }
  const bool all_read = std::none_of(workers.begin(), workers.end(), [](const Worker* worker) {
    return worker->taken_before_read == worker->taken.load();
  });
  if (all_read) all_resent_read_ = true;
}

/// Enters blocking mode, in which all threads serve, when requests block.
void Workers::note_blocked(bool blocked) noexcept {
  blocking_ = blocked ? blocking_ + kBlockedCounts : blocking_ - std::min(blocking_, 1U);
  if (blocking_ < kBlocking) return;
  blocking_ = 0;
  enter_blocking_mode();
}

/// Sleeps when nothing has happened for some time. Nothing then checks for starved workers, so all of them are unpinned
/// first.
void Workers::pause_if_quiet(bool progressed) noexcept {
  quiet_rounds_ = progressed || queues_.has_queued() ? 0 : quiet_rounds_ + 1;
  if (quiet_rounds_ < kQuietRounds) return;
  // Every worker may have a request that lasts until another request comes, so one more worker must read.
  if (waiting_ == 0) return wake_or_start_worker();
  for (Worker* const worker : all_workers()) release(*worker);
  while (queues_.take_buffer() != nullptr) {
  }
  monitoring_ = false;
  // A worker that takes a request reads monitoring_ afterwards.
  if (taken_ != seen_) monitoring_ = true;
}

/// Unpins a pinned worker that a caller waits for in vain.
void Workers::check_starved(Worker& worker, bool progressed, bool request_waits) noexcept {
  if (worker.pinned_to == kNoCpu) {
    worker.starved_rounds = 0;
    return;
  }
  if (worker.is_spare || is_blocking_mode()) return release(worker);
  const std::optional<unsigned> own_cpu = worker.claimed_cpu();
  const RequestSlot* const slot = worker.slot;
  const bool owes = (slot != nullptr && !slot->answered) || (own_cpu && queues_.has_queued(*own_cpu));
  if (progressed || (!owes && !request_waits)) {
    worker.starved_rounds = 0;
  } else if (++worker.starved_rounds >= kStarvedRounds) {
    unpin_starved(worker, owes);
  }
}

/// Other programs use the CPU, or its caller computes and has only left something to clear up. The next request shows
/// which.
void Workers::unpin_starved(Worker& worker, bool owes) noexcept {
  const TimePoint now = std::chrono::steady_clock::now();
  const bool is_again = worker.backoff.count() != 0 && now - worker.starved_until.load() < worker.backoff * 4;
  worker.backoff = is_again ? std::min<Duration>(worker.backoff * 2, kLongestBackoff) : Duration(kBackoff);
  worker.starved_until = now + worker.backoff;
  if (owes) {
    worker.unpinned_until = worker.starved_until.load();
    if (const std::optional<unsigned> own_cpu = worker.claimed_cpu())
      queues_.close_until(*own_cpu, worker.starved_until.load());
  } else {
    worker.was_starved = true;
  }
  release(worker);
}

bool Workers::is_blocked(const Worker& worker) noexcept {
  try {
    return sys::activity_of(worker.proc_id).kind == sys::ThreadActivity::Kind::kWaiting;
  } catch (const std::exception&) {
    return false;
  }
}

void Workers::release(Worker& worker) noexcept {
  const int before = worker.pinned_to.exchange(kNoCpu);
  if (before == kNoCpu) return;
  // In this order: if the worker pins itself at this moment, it sees the change and undoes it.
  static_cast<void>(sys::unpin(worker.id));
  queues_.leave(static_cast<unsigned>(before));
}

std::vector<Workers::Worker*> Workers::all_workers() noexcept {
  std::vector<Worker*> all;
  try {
    MutexLock lock(mutex_);
    all.reserve(workers_.size());
    for (const auto& worker : workers_) {
      if (!worker->over) all.push_back(worker.get());
    }
  } catch (const std::exception&) {
    // The next round covers them.
  }
  return all;
}

}  // namespace berth::fuse
