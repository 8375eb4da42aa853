#pragma once

#include <linux/fuse.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fuse/kept/requests.h"
#include "fuse/kept/unwritten_pages.h"
#include "fuse/session/lane.h"
#include "fuse/wire/protocol.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// What each thread does for the kernel now, so that a request in a share that does not answer can be answered all the
/// same. The request's thread is stuck in the kernel, where nothing reaches it, but its caller need not be. One word a
/// thread decides which answer is the first. A later answer of the stuck thread is not sent, and the thread undoes what
/// it has counted and opened.
///
/// Each share has a Lane, which bounds the threads that it can hold.
///
/// Threading: any thread may call anything; care() one at a time.
class InFlight {
 public:
  /// The functions of the session that this calls.
  struct Setup {
    /// Answers a request: an errno value, or 0 and a body.
    std::function<void(std::uint64_t unique, int error, std::span<const char> body)> answer;
    /// The lane of a request by its node and opcode. Null: it never has to wait for a server. 0: the lane of the node.
    std::function<Lane*(std::uint64_t node, std::uint32_t opcode)> lane_of;
    /// Operations::note_lost_pages()
    std::function<void(std::uint64_t node)> note_lost_pages;
  };
  explicit InFlight(Setup setup);
  ~InFlight();
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;

  /// The state of one thread.
  struct alignas(64) Slot {
    /// The number of the request while an answer of its thread would be the first; with kClaimed when another thread
    /// has answered it. 0: none that could be answered by others.
    std::atomic<std::uint64_t> word{0};
    std::atomic<std::uint64_t> serial{0};  ///< odd while there is a request
    std::atomic<std::uint64_t> node{0};
    std::atomic<std::uint32_t> opcode{0};
    std::atomic<pid_t> pid{0};
    std::atomic<uid_t> uid{0};
    std::atomic<RequestRecord*> record{nullptr};
    std::atomic<Lane*> lane{nullptr};  ///< the lane that the thread has entered
    /// The lane in which the thread is counted as stuck. A thread that takes this out must count it off.
    std::atomic<Lane*> stuck{nullptr};
    std::atomic<Lane::Epoch> entered_in{0}, stuck_in{0};
    std::atomic<bool> stuck_outside{false};      ///< `stuck` was not entered, and must be left
    std::atomic<bool> answered{true};            ///< no caller waits for this thread
    std::atomic<bool> changes{false};            ///< it is an OPEN that truncates its file
    std::atomic<bool> reads_pages{false};        ///< of a READ: protocol::reads_pages()
    std::atomic<std::uint32_t> written_back{0};  ///< bytes of pages that the request writes back for the kernel
    std::atomic<bool> is_written{false};         ///< these have been written
    std::atomic<bool> free{false};               ///< the slot belongs to no thread

    // Used by care() only.
    std::uint64_t seen = 0;          ///< `serial` at the last check
    std::atomic<TimePoint> since{};  ///< when `seen` was first seen; read by others

    Mutex mutex;
    std::uint64_t known_for BERTH_GUARDED_BY(mutex) = 0;
    int known_error BERTH_GUARDED_BY(mutex) = 0;  ///< the answer to that request if the share does not give one
    std::string known BERTH_GUARDED_BY(mutex);
    /// The request, as it was read, if it writes pages back and has not ended; and where a copy of it is kept.
    std::span<const char> message BERTH_GUARDED_BY(mutex);
    std::optional<std::uint32_t> kept BERTH_GUARDED_BY(mutex);
  };
  static constexpr std::uint64_t kClaimed = 1;  ///< the kernel's numbers of requests are even

  /// Makes the calling thread one that handles requests, for a scope.
  class Thread {
   public:
    explicit Thread(InFlight& in_flight) : slot_(in_flight.acquire()), outer_(std::exchange(current_, &slot_)) {}
    ~Thread() {
      current_ = outer_;
      slot_.free.store(true, std::memory_order_release);
    }
    Thread(const Thread&) = delete;
    Thread& operator=(const Thread&) = delete;
    [[nodiscard]] Slot& slot() const noexcept { return slot_; }

   private:
    Slot& slot_;
    Slot* const outer_;
  };

  /// The thread handles a request from here on. `lane`: the lane that the request has entered, or null.
  static void begin(Slot& slot, const protocol::Message& message, RequestRecord* record, Lane* lane) noexcept {
    if (message.header.opcode == FUSE_READ) {
      slot.reads_pages.store(protocol::reads_pages(message), std::memory_order_relaxed);
    }
    begin(slot, message.header, record, lane, message.header.unique);
    if (message.header.opcode == FUSE_WRITE) begin_write_back(slot, message);
  }
  /// The thread has handled the request. True: it has a lane to leave (serve_waiting()).
  bool end(Slot& slot) {
    if (slot.written_back.load(std::memory_order_relaxed) != 0) [[unlikely]]
      end_write_back(slot);
    slot.word.store(0, std::memory_order_relaxed);
    slot.serial.fetch_add(1, std::memory_order_seq_cst);
    return slot.stuck.load(std::memory_order_seq_cst) != nullptr ||
           slot.lane.load(std::memory_order_relaxed) != nullptr;
  }

  // The calling thread's request; all true where it has none.

  /// Whether the answer to `unique` must still be sent. If so, no other thread sends one.
  static bool may_answer(std::uint64_t unique) noexcept;
  /// The number of the request, before hand_on(); 0: none.
  static std::uint64_t number() noexcept {
    return current_ != nullptr ? current_->word.load(std::memory_order_relaxed) & ~kClaimed : 0;
  }
  static std::uint32_t opcode() noexcept {
    return current_ != nullptr ? current_->opcode.load(std::memory_order_relaxed) : 0;
  }
  /// From here on the owner of the request answers it, on any thread. False: it is answered already.
  static bool hand_on() noexcept;
  /// The answer if the share does not answer soon: an errno value, or 0 and a body.
  static void set_known(int error, std::string body);
  /// It changes something, though its opcode does not say so.
  static void set_changes() noexcept {
    if (current_ != nullptr) current_->changes.store(true, std::memory_order_relaxed);
  }
  static bool changes() noexcept { return current_ != nullptr && current_->changes.load(std::memory_order_relaxed); }
  /// The pages that it writes back have been written.
  static void set_written() noexcept {
    if (current_ != nullptr) current_->is_written.store(true, std::memory_order_relaxed);
  }
  /// Another thread has answered it: what it brings is not told to its caller.
  static bool is_given_up() noexcept {
    return current_ != nullptr && (current_->word.load(std::memory_order_relaxed) & kClaimed) != 0;
  }
  /// The record in which the thread notes what it does.
  static void set_record(RequestRecord* record) noexcept {
    if (current_ != nullptr) current_->record.store(record, std::memory_order_relaxed);
  }

  /// Whether requests have to enter their lanes.
  [[nodiscard]] bool is_troubled() const noexcept { return troubles_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] std::size_t stuck_threads() const noexcept { return stuck_.load(std::memory_order_relaxed); }
  /// Requests that were handled so far.
  [[nodiscard]] std::uint64_t handled() const;
  [[nodiscard]] Lane* lane_of(std::uint64_t node, std::uint32_t opcode = 0) const {
    return setup_.lane_of(node, opcode);
  }

  /// Lets the request in a message in, or keeps a copy that waits. A request that is refused is answered EAGAIN.
  Lane::Entry enter(Slot& slot, Lane& lane, const protocol::Message& message);
  /// Lets the calling thread's request into a lane that it has not entered, if it would not wait; true where it has no
  /// request.
  bool try_enter(Lane& lane);
  /// The same for a request that continues after a mount, on a thread of the manager's.
  void go_on(Lane& lane, Lane::Waiting waiting);
  /// Leaves the lane of a request that has ended, or runs requests that wait there, as long as these are answered.
  void serve_waiting(Slot& slot, RequestRecord* record);
  /// The function that handles a message that has waited.
  using Handle = std::function<void(RequestRecord*, const protocol::Message&)>;
  /// `wake`: has care() called soon. `note_waiting`: called with the number of each request that is put off. Before the
  /// first request.
  void serve(Handle handle, std::function<void()> wake, std::function<void(std::uint64_t)> note_waiting);

  /// Where copies of acknowledged requests are kept. What an earlier server has kept is written as soon as requests are
  /// read. Before the first request, and after serve().
  void keep_in(UnwrittenPages& unwritten);

  /// A caller has given up. False: its request does not wait in a lane, and the owner of the request must be notified;
  /// if it is stuck in a share, it is answered EINTR soon.
  bool interrupt(std::uint64_t unique);
  /// Whether the interrupt of a request of `caller` ends the request: the kernel interrupts it also where the caller is
  /// only to stop (SIGSTOP, ptrace(2)), and programs do not expect EINTR then. If not, the kernel is asked to
  /// interrupt it again in a moment, for it does so once, whatever signals come next. A wait for a lock ends always:
  /// the kernel makes ERESTARTSYS of its EINTR (fuse_setlk()).
  [[nodiscard]] bool ends_request(std::uint64_t unique, pid_t caller, std::uint32_t opcode);
  /// Looks after stuck and waiting requests; to be called every few milliseconds while needs_care().
  void care(TimePoint now);
  [[nodiscard]] bool needs_care() const noexcept {
    return troubles_.load() != 0 || interrupts_now_.load() != 0 || repeats_now_.load() != 0;
  }

  /// The share of `lane` is taken away: callers that are stuck in it or wait for it are answered `error`.
  void give_up(Lane& lane, int error);
  /// The callers that wait in a share, in a thread or for one.
  [[nodiscard]] std::vector<Lane::Caller> callers(const Lane& lane) const;

 private:
  struct Interrupt {
    std::uint64_t unique;
    TimePoint since;
  };

  Slot& acquire();
  [[nodiscard]] std::vector<Slot*> slots() const;
  [[nodiscard]] std::size_t most_inside() const noexcept;
  static void begin(Slot& slot, const fuse_in_header& header, RequestRecord* record, Lane* lane,
                    std::uint64_t word) noexcept;
  static bool claim(Slot& slot, std::uint64_t unique) noexcept;
  void look_at(Slot& slot, TimePoint now, bool look_for_exits);
  void note_stuck(Slot& slot);
  bool come_back(Slot& slot, Lane& lane);
  void leave(Lane& lane, Lane::Epoch epoch, TimePoint now);
  void answer_known(Slot& slot, std::uint64_t unique);
  void acknowledge(Slot& slot, std::uint64_t unique, TimePoint now);
  void acknowledge(Lane& lane, TimePoint now);
  static void begin_write_back(Slot& slot, const protocol::Message& message) noexcept;
  void end_write_back(Slot& slot);
  void drop_kept(std::optional<std::uint32_t> slot) noexcept {
    if (slot) unwritten_->drop(*slot);
  }
  void answer_overdue(Slot& slot, std::uint64_t unique, TimePoint now);
  void answer_overdue(Lane& lane, TimePoint now);
  void answer_interrupts(const std::vector<Slot*>& slots, TimePoint now);
  void refuse(Lane::Waiting& waiting, int error);
  bool interrupt_waiting(std::uint64_t unique);
  void repeat_interrupts(TimePoint now);
  void interrupt_stuck(Slot& slot, std::uint64_t unique);
  void look_at_lanes(TimePoint now, bool look_for_exits);
  void handle(Slot& slot, Lane& lane, Lane::Epoch epoch, Lane::Waiting waiting, RequestRecord* record);
  void handle_apart(Lane& lane, Lane::Epoch epoch, std::deque<Lane::Waiting> all);
  void answer_ended(Lane& lane);
  void answer_ended(Lane& lane, const Lane::Caller& caller);
  bool answer_waiting(Lane& lane, std::uint64_t unique, int error);
  void note_waiting(Lane& lane, std::uint64_t unique);
  void stopped_waiting(std::size_t count = 1) noexcept { troubles_.fetch_sub(count, std::memory_order_relaxed); }

  static thread_local constinit Slot* current_;

  const Setup setup_;
  Handle handle_;
  std::function<void()> wake_;
  std::function<void(std::uint64_t)> note_waiting_;
  UnwrittenPages not_kept_{nullptr};
  UnwrittenPages* unwritten_ = &not_kept_;

  std::atomic<std::size_t> troubles_{0};  ///< threads that are stuck, and requests that wait
  std::atomic<std::size_t> stuck_{0};     ///< threads
  std::atomic<std::size_t> interrupts_now_{0};
  std::atomic<std::size_t> repeats_now_{0};

  mutable Mutex mutex_;
  std::vector<std::unique_ptr<Slot>> slots_ BERTH_GUARDED_BY(mutex_);
  std::vector<Lane*> lanes_ BERTH_GUARDED_BY(mutex_);  ///< in which a request waits, or waited at the last check
  std::deque<Interrupt> interrupts_ BERTH_GUARDED_BY(mutex_);
  std::deque<Interrupt> repeats_ BERTH_GUARDED_BY(mutex_);  ///< interrupts that the kernel is to send again
  std::size_t apart_ BERTH_GUARDED_BY(mutex_) = 0;          ///< threads of this object's own
  ConditionVariable apart_ended_;

  TimePoint repeated_{};        ///< when repeat_interrupts() did something last
  TimePoint look_for_exits_{};  ///< when care() looks next for programs that end
  std::size_t exit_looks_ = 0;
};

}  // namespace berth::fuse
