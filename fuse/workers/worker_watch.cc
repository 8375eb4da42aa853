#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "fuse/workers/workers.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/scheduling.h"

// Workers: how many serve, and who does not get his processor.
namespace berth::fuse {
namespace {

/// How long a worker keeps away from callers' processors after somebody has waited for it there; up to the longer one when that
/// happens again soon.
constexpr std::chrono::milliseconds kKeepAway{50};
constexpr std::chrono::milliseconds kKeepLongAway{1600};

/// What has waited as long in a worker's box is for any other.
constexpr std::chrono::milliseconds kLateMail{2};

/// How often the watch sees nothing new before it sleeps.
constexpr unsigned kQuietWatches = 50;
/// How often in a row somebody is seen to wait for a worker before it is late: once may be this very moment.
constexpr unsigned kLateWatches = 2;
/// Callers take turns where another one comes next at least every so many requests.
constexpr std::uint64_t kTurnsInRequests = 4;
/// Requests block when a worker was seen to while others waited, three times within some ten looks.
constexpr unsigned kBlockedCounts = 4;
constexpr unsigned kBlocking = 9;

/// Whether a worker is written off until it comes back.
bool is_stuck(const InFlight::Slot* slot) noexcept { return slot != nullptr && slot->stuck != nullptr; }

}  // namespace

void Workers::wake_watch() noexcept {
  MutexLock lock(mutex_);
  watching_ = true;
  changed_.notify_all();
}

void Workers::watch() noexcept {
  const std::uint64_t taken = taken_;
  const bool progressed = std::exchange(seen_, taken) != taken;
  const bool request_waits = has_request();
  const bool nobody_takes_it = request_waits && waiting_ == 0;
  called_to_ = kNowhere;  // whoever was called has gone there by now, or not come
  std::size_t busy = 0;
  std::size_t blocked = 0;
  bool requests_block = false;
  bool take_turns = false;
  for (Worker* const worker : all_workers()) {
    const std::uint64_t news = worker->taken - std::exchange(worker->seen, worker->taken);
    const std::uint64_t turns = worker->turns - std::exchange(worker->seen_turns, worker->turns);
    take_turns |= turns * kTurnsInRequests > news;
    look_whether_late(*worker, news != 0, request_waits);
    if (!worker->handling || is_stuck(worker->slot)) continue;
    ++busy;
    if (!nobody_takes_it || !is_blocked(*worker)) continue;
    ++blocked;
    requests_block |= !worker->looking;
    release(*worker);
  }
  // Whoever it was sent to, and all others, may sleep or be stuck.
  posts_.let_go_of_late(std::chrono::steady_clock::now(), kLateMail);
  if (posts_.has_stray()) call_another();
  note_blocked(requests_block);
  look_whether_all_came(request_waits);
  if (!nobody_takes_it) return look_whether_quiet(progressed);
  // One who asks one thing after another is served best by one worker, and few by few: that something waits says nothing.
  const std::size_t enough = take_turns ? std::max<std::size_t>(processors_ - 1, 1) : 1;
  std::size_t wanted = 0;
  if (busy == 0) {
    wanted = progressed ? 0 : 1;  // who is to take it is on his way
  } else if (blocked == busy) {
    wanted = busy;
  } else if (busy - blocked < enough) {
    wanted = 1;
  }
  for (std::size_t i = 0; i < wanted; ++i) call_another();
}

/// The kernel sends what it was asked to send again before all else. So when nothing waits there, and then each read that was
/// under way has brought what it brought, all have come but those whose callers were killed before.
void Workers::look_whether_all_came(bool request_waits) noexcept {
  if (!requests_.has_left() || (!all_sent_ && request_waits)) return;
  const std::vector<Worker*> workers = all_workers();
  if (!std::exchange(all_sent_, true)) {
    for (Worker* const worker : workers) {
      const std::uint64_t taken = worker->taken;
      if (worker->reading) worker->reads_after = taken;
    }
    return;
  }
  const bool all_came = std::none_of(workers.begin(), workers.end(),
                                     [](const Worker* worker) { return worker->reads_after == worker->taken.load(); });
  if (all_came) all_came_ = true;
}

/// All serve while requests block.
void Workers::note_blocked(bool blocked) noexcept {
  blocking_ = blocked ? blocking_ + kBlockedCounts : blocking_ - std::min(blocking_, 1U);
  if (blocking_ < kBlocking) return;
  blocking_ = 0;
  let_all_serve();
}

/// Sleeps when nothing has happened for some time. From then on nobody would see that a worker does not get its processor.
void Workers::look_whether_quiet(bool progressed) noexcept {
  quiet_watches_ = progressed || posts_.has_mail() ? 0 : quiet_watches_ + 1;
  if (quiet_watches_ < kQuietWatches) return;
  // All may be in requests that last, and only the next one ends them.
  if (waiting_ == 0) return call_another();
  for (Worker* const worker : all_workers()) release(*worker);
  while (posts_.take_spare() != nullptr) {
  }
  watching_ = false;
  // Whoever takes a request looks at watching_ after that.
  if (taken_ != seen_) watching_ = true;
}

/// A worker beside its caller that somebody waits for in vain runs anywhere again.
void Workers::look_whether_late(Worker& worker, bool progressed, bool request_waits) noexcept {
  if (worker.beside == kNowhere) {
    worker.late_watches = 0;
    return;
  }
  if (worker.resting || do_all_serve()) return release(worker);
  const std::optional<unsigned> post = worker.post();
  const InFlight::Slot* const slot = worker.slot;
  const bool owes = (slot != nullptr && !slot->answered) || (post && posts_.has_mail(*post));
  if (progressed || (!owes && !request_waits)) {
    worker.late_watches = 0;
  } else if (++worker.late_watches >= kLateWatches) {
    note_late(worker, owes);
  }
}

/// Other programs want the processor. Or its caller computes, and only has it clear up behind him: what it takes next will tell.
void Workers::note_late(Worker& worker, bool owes) noexcept {
  const TimePoint now = std::chrono::steady_clock::now();
  const bool is_again = worker.keeps_away.count() != 0 && now - worker.late_until.load() < worker.keeps_away * 4;
  worker.keeps_away = is_again ? std::min<Duration>(worker.keeps_away * 2, kKeepLongAway) : Duration(kKeepAway);
  worker.late_until = now + worker.keeps_away;
  if (owes) {
    worker.free_until = worker.late_until.load();
    if (const std::optional<unsigned> post = worker.post()) posts_.close(*post, worker.late_until.load());
  } else {
    worker.was_late = true;
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
  const int before = worker.beside.exchange(kNowhere);
  if (before == kNowhere) return;
  // In this order: should it move just now, it finds that out and comes back.
  static_cast<void>(sys::run_as_usual(worker.id));
  posts_.leave(static_cast<unsigned>(before));
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
    // They are looked after the next time.
  }
  return all;
}

}  // namespace berth::fuse
