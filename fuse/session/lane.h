#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_function.h"

namespace berth::fuse {
namespace protocol {
struct Message;
}

/// The requests in one share, as far as they have to be counted. A share that does not answer holds a few threads;
/// further requests wait here, in order.
///
///   answers ── kFewStuck threads are stuck, and nothing came back for kSilence ──▶ silent: all but a few wait
///      ▲                                                                            │
///      └──────────────── one of them comes back, or one that was sent to try ───────┘
///
/// A thread that comes back takes the next request that waits. So while a request waits, a thread is inside.
///
/// Pages that the kernel writes back may be acknowledged before they are written ("unwritten"). Until they are, all
/// other requests on their node wait, so that nothing is read before them and nothing overtakes them. Those of one node
/// are written one after the other, for the kernel may have changed and acknowledged the same page twice.
///
/// Threading: any thread may call anything.
class Lane {
 public:
  /// A request that waits for its turn.
  struct Waiting {
    std::uint64_t unique = 0;  ///< its number, as it was read
    std::uint64_t node = 0;
    std::uint64_t target = 0;  ///< another node that it changes; 0: none
    std::uint32_t opcode = 0;
    uid_t uid = 0;
    pid_t pid = 0;
    TimePoint since{};
    std::uint32_t written_back = 0;     ///< bytes of pages, if it writes these for the kernel
    bool reads_pages = false;           ///< protocol::reads_pages()
    bool must_be_done = false;          ///< even when its caller has given up
    std::optional<std::uint32_t> kept;  ///< UnwrittenPages::keep()
    bool changes = false;               ///< something, though its opcode does not say so
    bool answered = false;              ///< the caller has its answer, and the request must be done all the same
    std::vector<char> message;          ///< as it was read; empty: `work` is there instead
    /// Continues a request that was parked for a mount. 0: its turn has come; else an errno value that it is answered.
    UniqueFunction<void(int)> work;

    /// Pages that the kernel takes for written.
    [[nodiscard]] bool is_unwritten() const noexcept { return written_back != 0 && answered; }

    /// The request in a message, which is copied.
    static Waiting of(const protocol::Message& message, TimePoint now);
  };
  /// How a request entered, which decides how it leaves.
  using Epoch = std::uint32_t;

  static constexpr std::size_t kFewStuck = 4;
  /// The most threads inside a share that answers; fewer while many are stuck elsewhere.
  static constexpr std::size_t kMostInside = 64;
  static constexpr std::chrono::milliseconds kSilence{200};
  // Bounds of the requests that wait, and of their bytes.
  static constexpr std::size_t kMostWaiting = 4096;
  static constexpr std::size_t kMostWaitingOfUser = 1024;
  static constexpr std::size_t kMostBytes = std::size_t{128} << 20;
  static constexpr std::size_t kMostBytesOfUser = std::size_t{64} << 20;
  /// Bound of the bytes that are acknowledged and wait. The kernel stops processes that make too many of its pages
  /// dirty (balance_dirty_pages()), which acknowledging them would lift.
  static constexpr std::size_t kMostBytesUnwritten = std::size_t{64} << 20;
  /// Pages that wait for so long are acknowledged.
  static constexpr std::chrono::milliseconds kWriteBackPatience{200};

  /// A request that changes nothing is answered ETIMEDOUT after so long; 0: it waits. Any thread, at any time.
  void set_request_timeout(Duration timeout) noexcept {
    if (request_timeout() != timeout) request_timeout_.store(timeout, std::memory_order_relaxed);
  }
  [[nodiscard]] Duration request_timeout() const noexcept { return request_timeout_.load(std::memory_order_relaxed); }

  enum class Entry : std::uint8_t { kInside, kWaits, kRefused };
  /// Lets a request in, or has it wait: `waiting` is moved from then. Refused: too many wait, of this user or at all;
  /// those that must be done never are. `most`: threads inside.
  Entry enter(TimePoint now, std::size_t most, Epoch& epoch, Waiting& waiting);
  /// Lets a request in if it need not wait. False: it must not go in now.
  [[nodiscard]] bool try_enter(std::size_t most, Epoch& epoch);
  /// A thread leaves. If a request waits for its turn, the thread takes it and stays inside.
  [[nodiscard]] std::optional<Waiting> leave(TimePoint now, Epoch epoch);

  /// A thread is found stuck. `entered`: the epoch in which it has entered; if it has not entered, it is inside from
  /// here on.
  Epoch note_stuck(std::optional<Epoch> entered);
  /// The thread is not stuck any more, and still inside.
  void come_back(Epoch epoch);
  /// A waiting request that is sent to try, although the share is silent, or because no thread is inside to take it.
  /// The thread is inside then.
  [[nodiscard]] std::optional<Waiting> probe(TimePoint now, std::size_t most, Epoch& epoch);

  /// Takes out the request with that number; nothing: it does not wait here. A request that must be done stays and is
  /// marked as answered: `stays` is true then.
  [[nodiscard]] std::optional<Waiting> take(std::uint64_t unique, bool& stays);
  /// Takes out those that wait for longer than request_timeout(), and change nothing.
  [[nodiscard]] std::deque<Waiting> take_overdue(TimePoint now);
  /// Counts no thread as inside any more, and hands out the requests that waited. A thread that comes
  /// back leaves an epoch that is over. `unwritten`: the nodes that had unwritten pages; they count as having none.
  [[nodiscard]] std::deque<Waiting> begin_again(std::vector<std::uint64_t>& unwritten);

  /// A request that writes pages of `node` back is about to be acknowledged. Other requests on the node wait from here
  /// on.
  void add_unwritten(std::uint64_t node, std::uint64_t unique);
  /// It has ended. True: it was added, and the node has no other unwritten pages.
  bool remove_unwritten(std::uint64_t node, std::uint64_t unique);
  /// Acknowledges requests that write pages back and have waited long enough, or wait for a silent share, if `keep`
  /// keeps a copy: marks them as answered and adds them. The kernel must be told.
  struct Acknowledged {
    std::uint64_t unique;
    std::uint32_t size;
  };
  using Keep = std::function<std::optional<std::uint32_t>(std::span<const char> message)>;
  [[nodiscard]] std::vector<Acknowledged> acknowledge(TimePoint now, const Keep& keep);
  /// A request that an earlier server has acknowledged, and not done.
  void take_over(Waiting waiting);

  /// A request of `user` waits for the share to be mounted, from here until stop_waiting(). False: too many of the
  /// user's do.
  [[nodiscard]] bool wait_for_mount(uid_t user);
  void stop_waiting(uid_t user);

  /// Whether any thread is stuck in it.
  [[nodiscard]] bool is_stuck() const noexcept { return stuck_now_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] bool has_waiting() const noexcept { return waiting_now_.load(std::memory_order_relaxed) != 0; }

  /// A waiting request, as the status shows it.
  struct Caller {
    std::uint64_t unique;
    pid_t pid;
    uid_t uid;
    std::uint32_t opcode;
    std::uint64_t node;
    TimePoint since;
    bool reads_pages;
    /// name_of_opcode()
    [[nodiscard]] const char* operation() const noexcept;
  };
  /// Requests that wait and have no answer. `opcode`: of this kind alone; 0: all.
  [[nodiscard]] std::vector<Caller> callers(std::uint32_t opcode = 0) const;
  /// The one with that number; nothing: it does not wait here, or has an answer.
  [[nodiscard]] std::optional<Caller> caller_of(std::uint64_t unique) const;

 private:
  struct OfUser {
    std::size_t requests = 0;
    std::size_t bytes = 0;
  };
  [[nodiscard]] bool answers(TimePoint now) const BERTH_REQUIRES(mutex_);
  bool may_probe(TimePoint now, std::size_t most) BERTH_REQUIRES(mutex_);
  [[nodiscard]] bool has_room(const Waiting& waiting) const BERTH_REQUIRES(mutex_);
  [[nodiscard]] bool is_behind(const Waiting& waiting) const BERTH_REQUIRES(mutex_);
  [[nodiscard]] std::deque<Waiting>::iterator next() BERTH_REQUIRES(mutex_);
  void add(Waiting waiting) BERTH_REQUIRES(mutex_);
  Waiting take_at(std::deque<Waiting>::iterator at) BERTH_REQUIRES(mutex_);

  std::atomic<Duration> request_timeout_{Duration::zero()};
  std::atomic<std::size_t> stuck_now_{0};    ///< stuck_
  std::atomic<std::size_t> waiting_now_{0};  ///< of waiting_

  mutable Mutex mutex_;
  Epoch epoch_ BERTH_GUARDED_BY(mutex_) = 1;
  std::size_t inside_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t stuck_ BERTH_GUARDED_BY(mutex_) = 0;  ///< of those inside
  TimePoint answers_until_ BERTH_GUARDED_BY(mutex_){};
  TimePoint next_probe_ BERTH_GUARDED_BY(mutex_){};
  unsigned probes_ BERTH_GUARDED_BY(mutex_) = 0;  ///< of a silent share, since a thread came back last
  std::deque<Waiting> waiting_ BERTH_GUARDED_BY(mutex_);
  // Of waiting_, but for pages that are written back: the kernel bounds these.
  std::size_t counted_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t bytes_ BERTH_GUARDED_BY(mutex_) = 0;
  std::map<uid_t, OfUser> of_users_ BERTH_GUARDED_BY(mutex_);
  /// The requests by which pages of a node are being written, and were acknowledged, in that order.
  std::map<std::uint64_t, std::vector<std::uint64_t>> unwritten_ BERTH_GUARDED_BY(mutex_);
  std::size_t bytes_unwritten_ BERTH_GUARDED_BY(mutex_) = 0;  ///< of those that wait
  std::map<uid_t, std::size_t> wait_for_mount_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
