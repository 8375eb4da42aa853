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
struct Mail {
  std::unique_ptr<ReadBuffer> buffer;
  std::size_t size = 0;  ///< of the request, in bytes
  TimePoint sent{};
};

/// Posts of workers, one a processor at most, each with a box for what others have read and is for the callers there. What is left
/// when a worker leaves is stray: for whoever comes first.
///
/// Threading: any thread may call anything.
class Posts {
 public:
  /// `processors` are numbered from 0.
  explicit Posts(std::size_t processors);

  /// False: there is a worker, or is no such processor, or there are enough of them.
  bool take(unsigned processor) noexcept;
  void leave(unsigned processor) noexcept;
  /// Nobody can take it until then.
  void close(unsigned processor, TimePoint until) noexcept;
  [[nodiscard]] bool is_taken(unsigned processor) const noexcept;
  /// How many there are.
  [[nodiscard]] std::size_t taken() const noexcept { return taken_.load(std::memory_order_relaxed); }

  /// The worker there is about to sleep, and nothing is sent to it from here on. False: its box has something, and it stays awake.
  [[nodiscard]] bool try_sleep(unsigned processor) noexcept;
  void wake(unsigned processor) noexcept;

  /// False: nobody is there and awake, or his box is full; `mail` is still the caller's.
  bool send(unsigned processor, Mail& mail) noexcept;
  /// The next for a worker at `post`: from its box, or a stray one. Empty `post`: a stray one.
  [[nodiscard]] std::optional<Mail> receive(std::optional<unsigned> post) noexcept;
  /// What has waited longer than `age` in any box.
  [[nodiscard]] std::optional<Mail> take_late(TimePoint now, Duration age) noexcept;

  /// What has waited longer than `age` is stray from now on: one of each box.
  void let_go_of_late(TimePoint now, Duration age) noexcept;

  [[nodiscard]] bool has_mail() const noexcept { return mail_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] bool has_mail(unsigned processor) const noexcept;
  [[nodiscard]] bool has_stray() const noexcept { return stray_count_.load(std::memory_order_relaxed) != 0; }

  /// Buffers to read into that nobody uses; null: there is none.
  [[nodiscard]] std::unique_ptr<ReadBuffer> take_spare() noexcept;
  void add_spare(std::unique_ptr<ReadBuffer> buffer) noexcept;

 private:
  static constexpr std::size_t kMostTaken = 8;  ///< one device feeds all of them
  static constexpr std::size_t kMostMail = 8;   ///< in a box
  static constexpr std::size_t kMostSpare = 16;

  struct alignas(64) Post {
    std::atomic<bool> taken{false};
    std::atomic<bool> asleep{false};
    std::atomic<TimePoint> closed_until{TimePoint{}};
    std::atomic<std::size_t> count{0};  ///< in the box
    Mutex mutex;
    std::vector<Mail> box BERTH_GUARDED_BY(mutex);  ///< the first is the oldest
  };

  static std::optional<Mail> take_first_of(Post& post, TimePoint sent_before = TimePoint::max()) noexcept;
  void add_stray(Mail mail) noexcept;
  std::optional<Mail> take_stray() noexcept;

  std::vector<Post> posts_;
  std::atomic<std::size_t> taken_{0};
  std::atomic<std::size_t> mail_{0};  ///< in all boxes, stray or not

  std::atomic<std::size_t> stray_count_{0};
  Mutex mutex_;
  std::vector<Mail> stray_ BERTH_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<ReadBuffer>> spare_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
