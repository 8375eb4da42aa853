#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "fuse/wire/protocol.h"
#include "fuse/workers/read_buffer.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// A request that one worker has read from the device and that another worker handles.
struct QueuedRequest {
  std::unique_ptr<ReadBuffer> buffer;
  protocol::Message message;  ///< in `buffer`
  TimePoint sent{};
};

/// A queue for each CPU that a worker has claimed. A CPU has one worker at most. The queue holds requests of callers on
/// that CPU which other workers have read. When the worker leaves, the requests in its queue are orphaned: the first
/// worker that asks gets them.
///
/// Threading: any thread may call anything.
class CpuQueues {
 public:
  /// `processors` is the number of CPUs. They are numbered from 0.
  explicit CpuQueues(std::size_t processors);

  /// False: a worker has claimed this CPU, the CPU does not exist, it is closed, or kMostClaimed CPUs are claimed.
  bool claim(unsigned cpu) noexcept;
  void leave(unsigned cpu) noexcept;
  /// No worker can claim the CPU before `until`.
  void close_until(unsigned cpu, TimePoint until) noexcept;
  [[nodiscard]] bool is_claimed(unsigned cpu) const noexcept;
  /// The number of claimed CPUs.
  [[nodiscard]] std::size_t claimed_count() const noexcept { return claimed_.load(std::memory_order_relaxed); }

  /// The worker of this CPU is about to sleep: push() refuses from here on. False: its queue holds a request, and it
  /// must stay awake.
  [[nodiscard]] bool try_sleep(unsigned cpu) noexcept;
  void wake(unsigned cpu) noexcept;

  /// False: no worker of this CPU is awake, or its queue is full. `queued` then still belongs to the calling thread.
  bool push(unsigned cpu, QueuedRequest& queued) noexcept;
  /// The next request for the worker of `post`: the oldest of its queue, or else an orphaned one. Empty `post`: an
  /// orphaned one.
  [[nodiscard]] std::optional<QueuedRequest> pop(std::optional<unsigned> cpu) noexcept;
  /// A request that has waited longer than `age` in any queue.
  [[nodiscard]] std::optional<QueuedRequest> steal_late(TimePoint now, Duration age) noexcept;

  /// Makes the oldest request of each queue orphaned if it has waited longer than `age`.
  void orphan_late(TimePoint now, Duration age) noexcept;

  [[nodiscard]] bool has_queued() const noexcept { return queued_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] bool has_queued(unsigned cpu) const noexcept;
  [[nodiscard]] bool has_orphaned() const noexcept { return orphaned_count_.load(std::memory_order_relaxed) != 0; }

  /// A free read buffer; null: none is free.
  [[nodiscard]] std::unique_ptr<ReadBuffer> take_buffer() noexcept;
  void add_buffer(std::unique_ptr<ReadBuffer> buffer) noexcept;

 private:
  static constexpr std::size_t kMostClaimed = 8;  ///< one device feeds all of them
  static constexpr std::size_t kMostQueued = 8;   ///< in one queue
  static constexpr std::size_t kMostBuffers = 16;

  struct alignas(64) CpuQueue {
    std::atomic<bool> claimed{false};
    std::atomic<bool> asleep{false};
    std::atomic<TimePoint> closed_until{TimePoint{}};
    std::atomic<std::size_t> count{0};  ///< of the requests in the queue
    Mutex mutex;
    std::vector<QueuedRequest> requests BERTH_GUARDED_BY(mutex);  ///< the first is the oldest
  };

  static std::optional<QueuedRequest> take_first_of(CpuQueue& queue, TimePoint sent_before = TimePoint::max()) noexcept;
  void add_orphaned(QueuedRequest queued) noexcept;
  std::optional<QueuedRequest> take_orphaned() noexcept;

  std::vector<CpuQueue> queues_;
  std::atomic<std::size_t> claimed_{0};
  std::atomic<std::size_t> queued_{0};  ///< in all queues, orphaned or not

  std::atomic<std::size_t> orphaned_count_{0};
  Mutex mutex_;
  std::vector<QueuedRequest> orphaned_ BERTH_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<ReadBuffer>> buffers_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
