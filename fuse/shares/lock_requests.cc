#include "fuse/shares/lock_requests.h"

#include <utility>

#include "fuse/tables/lock_range.h"

namespace berth::fuse {
template <typename Change>
void LockRequests::Request::each_earlier(const Change& change) {
  // In the order in which they came.
  for (auto other = all_.entries_.lower_bound(at_->first); other != at_; ++other) {
    if (overlap(other->second.range, at_->second.range)) change(other->second);
  }
}

LockRequests::Request::Request(LockRequests& all, NodeId node, std::uint64_t owner, const struct flock& range)
    : all_(all), at_([&] {
        MutexLock lock(all.mutex_);
        return all.entries_.insert({{node, owner}, Entry{range}});
      }()) {
  MutexLock lock(all_.mutex_);
  each_earlier([&range](Entry& earlier) {
    if (range.l_type != F_UNLCK) {
      ++earlier.later_locks;
    } else {
      ++earlier.later_unlocks;
      if (covers(range, earlier.range)) earlier.later_locks = 0;
    }
  });
}

LockRequests::Request::~Request() {
  MutexLock lock(all_.mutex_);
  const Entry& entry = at_->second;
  if (entry.undoes) all_.undoing_.fetch_sub(1, std::memory_order_relaxed);
  if (!entry.is_set) {
    each_earlier([is_lock = entry.range.l_type != F_UNLCK](Entry& earlier) {
      unsigned& later = is_lock ? earlier.later_locks : earlier.later_unlocks;
      if (later > 0) --later;
    });
  }
  all_.entries_.erase(at_);
}

void LockRequests::Request::note_set() {
  MutexLock lock(all_.mutex_);
  at_->second.is_set = true;
}

bool LockRequests::Request::must_wait() const {
  // One that begins after this request was made finds it, and undoes nothing.
  if (all_.undoing_.load(std::memory_order_relaxed) == 0) return false;
  MutexLock lock(all_.mutex_);
  const auto [first, last] = all_.entries_.equal_range(at_->first);
  for (auto other = first; other != last; ++other) {
    if (other != at_ && other->second.undoes && overlap(other->second.range, at_->second.range)) return true;
  }
  return false;
}

LockRequests::Later LockRequests::Request::begin_undo() {
  MutexLock lock(all_.mutex_);
  Entry& entry = at_->second;
  if (entry.later_locks > 0) return Later::kLock;
  if (!std::exchange(entry.undoes, true)) all_.undoing_.fetch_add(1, std::memory_order_relaxed);
  entry.is_set = false;
  return entry.later_unlocks > 0 ? Later::kUnlock : Later::kNothing;
}

}  // namespace berth::fuse
