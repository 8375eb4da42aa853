#include "fuse/workers/cpu_queues.h"

#include <utility>

namespace berth::fuse {
namespace {

QueuedRequest take_first(std::vector<QueuedRequest>& requests) noexcept {
  QueuedRequest first = std::move(requests.front());
  requests.erase(requests.begin());
  return first;
}

}  // namespace

// Reserves for the largest number of entries, so that nothing is allocated later.
CpuQueues::CpuQueues(std::size_t processors) : queues_(processors) {
  for (CpuQueue& queue : queues_) {
    MutexLock lock(queue.mutex);
    queue.requests.reserve(kMostQueued);
  }
  MutexLock lock(mutex_);
  orphaned_.reserve(kMostClaimed * kMostQueued);
  buffers_.reserve(kMostBuffers);
}

bool CpuQueues::claim(unsigned cpu) noexcept {
  if (cpu >= queues_.size() || is_claimed(cpu)) return false;
  CpuQueue& queue = queues_[cpu];
  if (std::chrono::steady_clock::now() < queue.closed_until.load(std::memory_order_relaxed)) return false;
  if (claimed_.fetch_add(1) < kMostClaimed) {
    MutexLock lock(queue.mutex);
    if (!queue.claimed.exchange(true)) {
      queue.asleep = false;
      return true;
    }
  }
  claimed_.fetch_sub(1);
  return false;
}

void CpuQueues::leave(unsigned cpu) noexcept {
  CpuQueue& queue = queues_[cpu];
  {
    MutexLock lock(queue.mutex);  // a push() comes before this and leave() sees its request below, or push() is refused
    if (!queue.claimed.exchange(false)) return;
  }
  claimed_.fetch_sub(1);
  while (std::optional<QueuedRequest> left = take_first_of(queue)) add_orphaned(*std::move(left));
}

void CpuQueues::add_orphaned(QueuedRequest queued) noexcept {
  MutexLock lock(mutex_);
  ++orphaned_count_;
  orphaned_.push_back(std::move(queued));
}

/// The oldest request of a queue.
std::optional<QueuedRequest> CpuQueues::take_first_of(CpuQueue& queue, TimePoint sent_before) noexcept {
  if (queue.count == 0) return std::nullopt;
  MutexLock lock(queue.mutex);
  if (queue.requests.empty() || queue.requests.front().sent > sent_before) return std::nullopt;
  --queue.count;
  return take_first(queue.requests);
}

void CpuQueues::close_until(unsigned cpu, TimePoint until) noexcept {
  queues_[cpu].closed_until.store(until, std::memory_order_relaxed);
}

bool CpuQueues::is_claimed(unsigned cpu) const noexcept {
  return cpu < queues_.size() && queues_[cpu].claimed.load(std::memory_order_relaxed);
}

bool CpuQueues::try_sleep(unsigned cpu) noexcept {
  CpuQueue& queue = queues_[cpu];
  MutexLock lock(queue.mutex);  // a push() comes before this and is seen here, or it sees that the worker sleeps
  if (!queue.requests.empty()) return false;
  queue.asleep = true;
  return true;
}

void CpuQueues::wake(unsigned cpu) noexcept { queues_[cpu].asleep.store(false, std::memory_order_relaxed); }

bool CpuQueues::push(unsigned cpu, QueuedRequest& queued) noexcept {
  if (!is_claimed(cpu)) return false;
  CpuQueue& queue = queues_[cpu];
  MutexLock lock(queue.mutex);
  if (!queue.claimed || queue.asleep || queue.requests.size() >= kMostQueued) return false;
  if (queued_.fetch_add(1) >= kMostClaimed * kMostQueued) {
    --queued_;
    return false;
  }
  ++queue.count;
  queue.requests.push_back(std::move(queued));
  return true;
}

std::optional<QueuedRequest> CpuQueues::take_orphaned() noexcept {
  if (orphaned_count_ == 0) return std::nullopt;
  MutexLock lock(mutex_);
  if (orphaned_.empty()) return std::nullopt;
  --orphaned_count_;
  --queued_;
  return take_first(orphaned_);
}

std::optional<QueuedRequest> CpuQueues::pop(std::optional<unsigned> cpu) noexcept {
  std::optional<QueuedRequest> first = cpu ? take_first_of(queues_[*cpu]) : std::nullopt;
  if (!first) return take_orphaned();
  --queued_;
  return first;
}

std::optional<QueuedRequest> CpuQueues::steal_late(TimePoint now, Duration age) noexcept {
  if (!has_queued()) return std::nullopt;
  for (CpuQueue& queue : queues_) {
    std::optional<QueuedRequest> late = take_first_of(queue, now - age);
    if (!late) continue;
    --queued_;
    return late;
  }
  return take_orphaned();
}

void CpuQueues::orphan_late(TimePoint now, Duration age) noexcept {
  if (!has_queued()) return;
  for (CpuQueue& queue : queues_) {
    if (std::optional<QueuedRequest> late = take_first_of(queue, now - age)) add_orphaned(*std::move(late));
  }
}

bool CpuQueues::has_queued(unsigned cpu) const noexcept {
  return cpu < queues_.size() && queues_[cpu].count.load(std::memory_order_relaxed) != 0;
}

std::unique_ptr<ReadBuffer> CpuQueues::take_buffer() noexcept {
  MutexLock lock(mutex_);
  if (buffers_.empty()) return nullptr;
  std::unique_ptr<ReadBuffer> buffer = std::move(buffers_.back());
  buffers_.pop_back();
  return buffer;
}

void CpuQueues::add_buffer(std::unique_ptr<ReadBuffer> buffer) noexcept {
  MutexLock lock(mutex_);
  if (buffer != nullptr && buffers_.size() < kMostBuffers) buffers_.push_back(std::move(buffer));
}

}  // namespace berth::fuse
