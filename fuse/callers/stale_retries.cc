#include "fuse/callers/stale_retries.h"

#include <algorithm>
#include <chrono>
#include <iterator>

namespace berth::fuse {
namespace {

using Record = StaleRetryRecord;

/// Between two requests of one system call. Most need some microseconds.
constexpr std::chrono::seconds kLongestPause{2};
/// One that is served for so long is sent back again at its next pause, for that is another system call then.
constexpr std::chrono::seconds kLongestInside{2};
constexpr std::chrono::milliseconds kPause{10};
/// From the name into the real mount.
constexpr std::chrono::milliseconds kLongestWay{100};

constexpr unsigned kThreadBits = 22;  // PID_MAX_LIMIT, linux/threads.h

bool can_be_kept(pid_t thread) noexcept { return thread > 0 && thread < 1 << kThreadBits; }

std::uint64_t key_of(pid_t thread, std::uint32_t share) noexcept {
  return static_cast<std::uint64_t>(thread) | std::uint64_t{share} << kThreadBits;
}
constexpr unsigned kKeyBits = kThreadBits + StaleRetries::kShareBits;
constexpr std::uint64_t kKeyMask = (std::uint64_t{1} << kKeyBits) - 1;

StaleRetries::Stage stage_in(const Record& record) noexcept {
  return static_cast<StaleRetries::Stage>(record.who >> kKeyBits);
}

pid_t thread_in(const Record& record) noexcept {
  return static_cast<pid_t>(record.who & ((std::uint64_t{1} << kThreadBits) - 1));
}

bool is_inside(StaleRetries::Stage stage) noexcept {
  return stage == StaleRetries::Stage::kInside || stage == StaleRetries::Stage::kInsideTwice;
}

bool may_walk(StaleRetries::Stage stage) noexcept {
  return stage == StaleRetries::Stage::kWalking || stage == StaleRetries::Stage::kInsideTwice;
}

Duration age(const std::atomic<std::int64_t>& at, TimePoint now) noexcept {
  return now.time_since_epoch() - Duration(at);
}

bool is_over(const Record& record, TimePoint now) noexcept {
  const Duration pause = age(record.last, now);
  return record.who == 0 || pause > kLongestPause ||
         (is_inside(stage_in(record)) && age(record.since, now) > kLongestInside && pause > kPause);
}

}  // namespace

StaleRetries::StaleRetries(StaleRetryArea* area)
    : own_(area != nullptr ? nullptr : std::make_unique<StaleRetryArea>()), area_(area != nullptr ? *area : *own_) {
  // By a server before this one.
  if (area != nullptr) last_set_ = std::chrono::steady_clock::now().time_since_epoch().count();
}

bool StaleRetries::is_empty(TimePoint now) const noexcept {
  return now > TimePoint(Duration(last_set_.load(std::memory_order_relaxed))) + 2 * kLongestPause;
}

Record* StaleRetries::find(pid_t thread, std::uint32_t share, TimePoint now) const {
  const std::uint64_t key = key_of(thread, share);
  const auto found = std::find_if(std::begin(area_.known), std::end(area_.known), [&](const Record& record) {
    return (record.who & kKeyMask) == key && !is_over(record, now);
  });
  return found != std::end(area_.known) ? &*found : nullptr;
}

StaleRetries::Stage StaleRetries::stage_of(pid_t thread, std::uint32_t share, TimePoint now) const {
  if (is_empty(now)) return Stage::kUnknown;
  MutexLock lock(mutex_);
  const Record* const known = find(thread, share, now);
  return known != nullptr ? stage_in(*known) : Stage::kUnknown;
}

bool StaleRetries::touch(pid_t thread, std::uint32_t share, TimePoint now) {
  if (is_empty(now)) return false;
  MutexLock lock(mutex_);
  Record* const known = find(thread, share, now);
  if (known == nullptr || !may_walk(stage_in(*known))) return false;
  known->last = now.time_since_epoch().count();
  return true;
}

/// Nothing over: the one that has passed the name longest ago, so long that it is there.
Record* StaleRetries::make_room(TimePoint now) {
  Record* oldest = nullptr;
  for (Record& record : area_.known) {
    if (is_over(record, now)) return &record;
    const bool has_arrived = stage_in(record) == Stage::kPassed && age(record.last, now) > kLongestWay;
    if (has_arrived && (oldest == nullptr || record.last < oldest->last)) oldest = &record;
  }
  return oldest;
}

bool StaleRetries::set(pid_t thread, std::uint32_t share, Stage stage, TimePoint now) {
  if (!can_be_kept(thread)) return false;
  MutexLock lock(mutex_);
  Record* record = find(thread, share, now);
  if (record == nullptr) {
    record = make_room(now);
    if (record == nullptr) return false;
    record->who = 0;
  }
  const bool stays_inside = record->who != 0 && is_inside(stage_in(*record)) && is_inside(stage);
  if (record->who == 0 || (stage_in(*record) != stage && !stays_inside)) record->since = now.time_since_epoch().count();
  record->last = now.time_since_epoch().count();
  record->who = key_of(thread, share) | static_cast<std::uint64_t>(stage) << kKeyBits;
  last_set_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  return true;
}

std::vector<StaleRetries::Seen> StaleRetries::all_in(std::uint32_t share, TimePoint now, bool (*are)(Stage)) const {
  std::vector<Seen> threads;
  if (is_empty(now)) return threads;
  MutexLock lock(mutex_);
  for (const Record& record : area_.known) {
    const std::uint64_t key = record.who & kKeyMask;
    if (!are(stage_in(record)) || key >> kThreadBits != share || age(record.last, now) > kLongestPause) continue;
    threads.push_back({thread_in(record), TimePoint(Duration(record.last))});
  }
  return threads;
}

std::vector<StaleRetries::Seen> StaleRetries::walking_in(std::uint32_t share, TimePoint now) const {
  return all_in(share, now, &may_walk);
}

std::vector<StaleRetries::Seen> StaleRetries::passed_in(std::uint32_t share, TimePoint now) const {
  return all_in(share, now, [](Stage stage) { return stage == Stage::kPassed; });
}

bool StaleRetries::has_ended(const Seen& seen, std::uint32_t share) {
  MutexLock lock(mutex_);
  Record* const known = find(seen.thread, share, seen.last);
  if (known == nullptr) return true;
  if (TimePoint(Duration(known->last)) != seen.last) return false;
  const bool was_inside = stage_in(*known) == Stage::kInsideTwice;
  known->who = was_inside ? key_of(seen.thread, share) | static_cast<std::uint64_t>(Stage::kInside) << kKeyBits : 0;
  return true;
}

}  // namespace berth::fuse
