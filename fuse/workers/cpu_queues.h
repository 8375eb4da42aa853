#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "fuse/workers/read_buffer.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// A request that one worker has read and another is to handle.
struct QueuedRequest {
  std::unique_ptr<ReadBuffer> buffer;
  std::size_t size = 0;  ///< of the request, in bytes
  TimePoint sent{};
};

/// CpuQueues of workers, one a processor at most, each with a box for what others have read and is for the callers there. What is left
/// when a worker leaves is stray: for whoever comes first.
///
/// Threading: any thread may call anything.
class CpuQueues {
 public:
  /// `processors` are numbered from 0.
  explicit CpuQueues(std::size_t processors);

  /// False: there is a worker, or is no such processor, or there are enough of them.
  bool claim(unsigned processor) noexcept;
  void leave(unsigned processor) noexcept;
  /// Nobody can take it until then.
  void close_until(unsigned processor, TimePoint until) noexcept;
  [[nodiscard]] bool is_claimed(unsigned processor) const noexcept;
  /// How many there are.
  [[nodiscard]] std::size_t claimed_count() const noexcept { return claimed_.load(std::memory_order_relaxed); }

  /// The worker there is about to sleep, and nothing is sent to it from here on. False: its box has something, and it stays awake.
  [[nodiscard]] bool try_sleep(unsigned processor) noexcept;
  void wake(unsigned processor) noexcept;

  /// False: nobody is there and awake, or his box is full; `mail` is still the caller's.
  bool push(unsigned processor, QueuedRequest& queued) noexcept;
  /// The next for a worker at `post`: from its box, or a stray one. Empty `post`: a stray one.
  [[nodiscard]] std::optional<QueuedRequest> pop(std::optional<unsigned> post) noexcept;
  /// What has waited longer than `age` in any box.
  [[nodiscard]] std::optional<QueuedRequest> steal_late(TimePoint now, Duration age) noexcept;

  /// What has waited longer than `age` is stray from now on: one of each box.
  void orphan_late(TimePoint now, Duration age) noexcept;

  [[nodiscard]] bool has_queued() const noexcept { return queued_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] bool has_queued(unsigned processor) const noexcept;
  [[nodiscard]] bool has_orphaned() const noexcept { return orphaned_count_.load(std::memory_order_relaxed) != 0; }

  /// Buffers to read into that nobody uses; null: there is none.
  [[nodiscard]] std::unique_ptr<ReadBuffer> take_buffer() noexcept;
  void add_buffer(std::unique_ptr<ReadBuffer> buffer) noexcept;

 private:
  static constexpr std::size_t kMostClaimed = 8;  ///< one device feeds all of them
  static constexpr std::size_t kMostQueued = 8;   ///< in a box
  static constexpr std::size_t kMostBuffers = 16;

  struct alignas(64) CpuQueue {
    std::atomic<bool> claimed{false};
    std::atomic<bool> asleep{false};
    std::atomic<TimePoint> closed_until{TimePoint{}};
    std::atomic<std::size_t> count{0};  ///< in the box
    Mutex mutex;
    std::vector<QueuedRequest> requests BERTH_GUARDED_BY(mutex);  ///< the first is the oldest
  };

  static std::optional<QueuedRequest> take_first_of(CpuQueue& queue, TimePoint sent_before = TimePoint::max()) noexcept;
  void add_orphaned(QueuedRequest queued) noexcept;
  std::optional<QueuedRequest> take_orphaned() noexcept;

  std::vector<CpuQueue> queues_;
  std::atomic<std::size_t> claimed_{0};
  std::atomic<std::size_t> queued_{0};  ///< in all boxes, stray or not

  std::atomic<std::size_t> orphaned_count_{0};
  Mutex mutex_;
  std::vector<QueuedRequest> orphaned_ BERTH_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<ReadBuffer>> buffers_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
