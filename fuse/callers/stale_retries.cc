#include "fuse/callers/stale_retries.h"

#include <algorithm>
#include <chrono>

#include "fuse/callers/path_calls.h"

namespace berth::fuse {
namespace {

using Record = StaleRetryRecord;

/// Between two requests of one system call. Most need some microseconds.
constexpr std::chrono::seconds kLongestPause{2};
/// One that is served for so long is sent back again at its next pause, for that is another system call then.
constexpr std::chrono::seconds kLongestInside{2};
constexpr std::chrono::milliseconds kPause{10};
/// A call that seems to go on after it was served so often is another one each time: no path leads through one
/// directory so often.
constexpr std::uint64_t kMostQuestions = 64;
/// From the name into the real mount.
constexpr std::chrono::milliseconds kLongestWay{100};

constexpr unsigned kThreadBits = 22;  // PID_MAX_LIMIT, linux/threads.h

bool can_be_kept(pid_t thread) noexcept { return thread > 0 && thread < 1 << kThreadBits; }

std::uint64_t key_of(pid_t thread, std::uint32_t share) noexcept {
  return static_cast<std::uint64_t>(thread) | std::uint64_t{share} << kThreadBits;
}
constexpr unsigned kKeyBits = kThreadBits + StaleRetries::kShareBits;
constexpr unsigned kStageBits = 3;
constexpr std::uint64_t kKeyMask = (std::uint64_t{1} << kKeyBits) - 1;

StaleRetries::Stage stage_in(const Record& record) noexcept {
  return static_cast<StaleRetries::Stage>(record.word >> kKeyBits & ((1U << kStageBits) - 1));
}

pid_t thread_in(const Record& record) noexcept {
  return static_cast<pid_t>(record.word & ((std::uint64_t{1} << kThreadBits) - 1));
}

std::uint32_t share_in(const Record& record) noexcept {
  return static_cast<std::uint32_t>((record.word & kKeyMask) >> kThreadBits);
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

/// So that it comes for another reason now, unless it is in the same call still.
bool is_old(const Record& record, TimePoint now) noexcept {
  const Duration pause = age(record.last, now);
  return pause > kLongestPause ||
         (is_inside(stage_in(record)) && age(record.since, now) > kLongestInside && pause > kPause);
}

bool may_be_same(std::uint64_t one, std::uint64_t other) noexcept {
  if (one == kNoCall || other == kNoCall) return false;
  return one == other || one == kCallNotSeen || other == kCallNotSeen;
}

std::uint64_t word_of(std::uint64_t key, StaleRetries::Stage stage, std::uint64_t questions) noexcept {
  return key | static_cast<std::uint64_t>(stage) << kKeyBits | questions << (kKeyBits + kStageBits);
}

std::uint64_t questions_in(const Record& record) noexcept { return record.word >> (kKeyBits + kStageBits); }

}  // namespace

StaleRetries::StaleRetries(StaleRetryArea* area, CallOf call_of, WalkOf walk_of)
    : own_(area != nullptr ? nullptr : std::make_unique<StaleRetryArea>()),
      area_(area != nullptr ? *area : *own_),
      call_of_(call_of),
      walk_of_(walk_of) {}

std::span<Record> StaleRetries::set_of(pid_t thread) const noexcept {
  static_assert(StaleRetryArea::kMost % kInSet == 0);
  const std::size_t set = static_cast<std::size_t>(thread) % (StaleRetryArea::kMost / kInSet);
  return {&area_.known[set * kInSet], kInSet};
}

/// Without a lock: what it is told of the thread was noted before the thread's last answer.
bool StaleRetries::is_known(pid_t thread) const noexcept {
  if (!can_be_kept(thread)) return false;
  const std::span<Record> set = set_of(thread);
  return std::any_of(set.begin(), set.end(), [thread](const Record& record) { return thread_in(record) == thread; });
}

Record* StaleRetries::find(pid_t thread, std::uint32_t share) const {
  const std::uint64_t key = key_of(thread, share);
  const std::span<Record> set = set_of(thread);
  const auto found =
      std::find_if(set.begin(), set.end(), [key](const Record& record) { return (record.word & kKeyMask) == key; });
  return found != set.end() ? &*found : nullptr;
}

StaleRetries::Stage StaleRetries::stage_of(pid_t thread, std::uint32_t share, TimePoint now) {
  if (!is_known(thread)) return Stage::kUnknown;
  std::uint64_t call = kNoCall;
  {
    MutexLock lock(mutex_);
    const Record* const known = find(thread, share);
    if (known == nullptr) return Stage::kUnknown;
    if (!is_old(*known, now)) return stage_in(*known);
    if (questions_in(*known) < kMostQuestions) call = known->call;
  }
  const bool is_same = call != kNoCall && may_be_same(call, call_of_(thread));
  MutexLock lock(mutex_);
  Record* const known = find(thread, share);
  if (known == nullptr) return Stage::kUnknown;
  if (is_same) {
    known->last = now.time_since_epoch().count();
    return stage_in(*known);
  }
  known->word = 0;
  return Stage::kUnknown;
}

std::optional<std::uint64_t>& StaleRetries::walk_in(const Record& record) {
  return walks_[static_cast<std::size_t>(&record - std::begin(area_.known))];
}

void StaleRetries::set_walk(pid_t thread, std::uint32_t share, std::uint64_t walk) {
  if (!is_known(thread)) return;
  MutexLock lock(mutex_);
  const Record* const known = find(thread, share);
  if (known != nullptr && known->call != kNoCall) walk_in(*known) = walk;
}

bool StaleRetries::was_sent_back_elsewhere(pid_t thread, std::uint32_t share, TimePoint now) {
  if (!is_known(thread)) return false;
  const auto is_elsewhere = [&](const Record& record) {
    return thread_in(record) == thread && (record.word & kKeyMask) != key_of(thread, share);
  };
  const std::span<Record> set = set_of(thread);
  if (std::none_of(set.begin(), set.end(), is_elsewhere)) return false;
  const std::uint64_t call = call_of_(thread);
  std::vector<std::optional<std::uint64_t>> walks;
  {
    MutexLock lock(mutex_);
    for (Record& record : set) {
      if (!is_elsewhere(record)) continue;
      const bool is_on_its_way = stage_in(record) == Stage::kOnItsWay;
      const bool is_call_unknown = record.call == kNoCall || call == kNoCall;
      const bool is_same = is_on_its_way && is_call_unknown ? !is_old(record, now) : may_be_same(record.call, call);
      if (is_on_its_way && is_same) return true;
      if (is_on_its_way) record.word = 0;
      if (is_same) walks.push_back(walk_in(record));
    }
  }
  if (walks.empty()) return false;
  const std::optional<std::uint64_t> own = walk_of_(thread);
  return !own || std::any_of(walks.begin(), walks.end(), [&](const auto& walk) { return !walk || walk == own; });
}

std::optional<TimePoint> StaleRetries::came_from_elsewhere(pid_t thread, std::uint32_t share) {
  if (!is_known(thread)) return std::nullopt;
  const std::uint64_t call = call_of_(thread);
  std::optional<TimePoint> last;
  MutexLock lock(mutex_);
  for (const Record& record : set_of(thread)) {
    if (thread_in(record) != thread || (record.word & kKeyMask) == key_of(thread, share)) continue;
    if (!may_be_same(record.call, call)) continue;
    last = std::max(last, std::optional(TimePoint(Duration(record.last))));
  }
  return last;
}

bool StaleRetries::touch(pid_t thread, std::uint32_t share, TimePoint now) {
  if (!is_known(thread)) return false;
  MutexLock lock(mutex_);
  Record* const known = find(thread, share);
  if (known == nullptr || is_old(*known, now) || !may_walk(stage_in(*known))) return false;
  known->last = now.time_since_epoch().count();
  return true;
}

/// In place of one that has asked for nothing for long, or else of the one that has passed the name longest ago, so
/// long that it is there. The thread itself is where it asks now.
Record* StaleRetries::make_room(pid_t thread, TimePoint now) {
  Record* oldest = nullptr;
  const auto is_before = [&](const Record& one, const Record& other) {
    return is_old(one, now) != is_old(other, now) ? is_old(one, now) : one.last < other.last;
  };
  for (Record& record : set_of(thread)) {
    if (record.word == 0) return &record;
    const bool is_there = age(record.last, now) > kLongestWay || thread_in(record) == thread;
    const bool has_arrived = stage_in(record) == Stage::kPassed && is_there;
    if (!has_arrived && !is_old(record, now)) continue;
    if (oldest == nullptr || is_before(record, *oldest)) oldest = &record;
  }
  return oldest;
}

bool StaleRetries::set(pid_t thread, std::uint32_t share, Stage stage, TimePoint now) {
  return put(thread, share, stage, now, std::nullopt);
}

bool StaleRetries::set_sent_back(pid_t thread, std::uint32_t share, TimePoint now) {
  return can_be_kept(thread) && put(thread, share, Stage::kOnItsWay, now, call_of_(thread));
}

/// `call`: in which it is answered ESTALE; without: the one that is known.
bool StaleRetries::put(pid_t thread, std::uint32_t share, Stage stage, TimePoint now,
                       std::optional<std::uint64_t> call) {
  if (!can_be_kept(thread)) return false;
  MutexLock lock(mutex_);
  Record* record = find(thread, share);
  const bool is_new = record == nullptr;
  if (is_new) {
    record = make_room(thread, now);
    if (record == nullptr) return false;
    record->word = 0;
    record->call = kNoCall;
  }
  const bool stays_inside = !is_new && is_inside(stage_in(*record)) && is_inside(stage);
  if (is_new || (stage_in(*record) != stage && !stays_inside)) record->since = now.time_since_epoch().count();
  if (call) record->call = *call;
  if (call || is_new) walk_in(*record).reset();
  record->last = now.time_since_epoch().count();
  const std::uint64_t questions = stays_inside ? std::min(questions_in(*record) + 1, kMostQuestions) : 0;
  record->word = word_of(key_of(thread, share), stage, questions);
  return true;
}

std::vector<StaleRetries::Seen> StaleRetries::walking_in(std::uint32_t share, TimePoint now) const {
  std::vector<Seen> threads;
  MutexLock lock(mutex_);
  for (const Record& record : area_.known) {
    if (share_in(record) != share || !may_walk(stage_in(record)) || age(record.last, now) > kLongestPause) continue;
    threads.push_back({thread_in(record), TimePoint(Duration(record.last))});
  }
  return threads;
}

std::vector<StaleRetries::Seen> StaleRetries::passed_in(std::uint32_t share) const {
  std::vector<Seen> threads;
  MutexLock lock(mutex_);
  for (const Record& record : area_.known) {
    if (share_in(record) != share || stage_in(record) != Stage::kPassed) continue;
    threads.push_back({thread_in(record), TimePoint(Duration(record.last))});
  }
  return threads;
}

bool StaleRetries::has_ended(const Seen& seen, std::uint32_t share) {
  MutexLock lock(mutex_);
  Record* const known = find(seen.thread, share);
  if (known == nullptr) return true;
  if (TimePoint(Duration(known->last)) != seen.last) return false;
  const bool was_inside = stage_in(*known) == Stage::kInsideTwice;
  known->call = kNoCall;
  known->word = was_inside ? word_of(key_of(seen.thread, share), Stage::kInside, questions_in(*known)) : 0;
  return true;
}

}  // namespace berth::fuse
