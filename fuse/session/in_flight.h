#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "fuse/kept/unwritten_pages.h"
#include "fuse/session/interrupts.h"
#include "fuse/session/lane.h"
#include "fuse/session/request_slot.h"
#include "fuse/wire/protocol.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// The requests that threads handle now, or that wait in lanes. A request in a share that does not answer is answered
/// all the same: its thread is stuck in the kernel, where nothing reaches it, but its caller need not be. A later
/// answer of the stuck thread is not sent, and the thread undoes what it has counted and opened.
///
/// Each share has a Lane, which bounds the threads that it can hold.
///
/// - in_flight.cc: requests enter lanes, leave them, and continue when their turn has come
/// - in_flight_care.cc: looks after requests that are stuck or wait: care()
/// - in_flight_pages.cc: pages that the kernel writes back
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

  /// The function that handles a message that has waited.
  using Handle = std::function<void(RequestRecord*, const protocol::Message&)>;
  /// `wake`: has care() called soon. `note_parked`: called with the number of each request that is parked. Before the
  /// first request.
  void serve(Handle handle, std::function<void()> wake, std::function<void(std::uint64_t)> note_parked);
  /// Where copies of acknowledged requests are kept. What an earlier server has kept is written as soon as requests are
  /// read. Before the first request, and after serve().
  void keep_in(UnwrittenPages& unwritten);

  /// For this_request::Thread.
  [[nodiscard]] RequestSlots& slots() noexcept { return slots_; }
  /// The thread has handled the request that its slot has begun. True: it has a lane to leave (serve_waiting()).
  bool end(RequestSlot& slot) {
    if (slot.written_back.load(std::memory_order_relaxed) != 0) [[unlikely]]
      end_write_back(slot);
    return slot.end();
  }

  /// Whether requests have to enter their lanes.
  [[nodiscard]] bool is_troubled() const noexcept { return troubles_.load(std::memory_order_relaxed) != 0; }
  [[nodiscard]] std::size_t stuck_threads() const noexcept { return stuck_.load(std::memory_order_relaxed); }
  /// Requests that were handled so far.
  [[nodiscard]] std::uint64_t handled() const { return slots_.handled(); }
  [[nodiscard]] Lane* lane_of(std::uint64_t node, std::uint32_t opcode = 0) const {
    return setup_.lane_of(node, opcode);
  }

  /// Lets the request in a message in, or keeps a copy that waits. A request that is refused is answered EAGAIN.
  Lane::Entry enter(RequestSlot& slot, Lane& lane, const protocol::Message& message);
  /// Lets the calling thread's request into a lane that it has not entered, if it would not wait; true where it has no
  /// request.
  bool try_enter(Lane& lane);
  /// The same for a request that continues after a mount, on a thread of the manager's.
  void go_on(Lane& lane, Lane::Waiting waiting);
  /// Leaves the lane of a request that has ended, or runs requests that wait there, as long as these are answered.
  void serve_waiting(RequestSlot& slot, RequestRecord* record);

  /// A caller has given up. False: its request does not wait in a lane, and the owner of the request must be notified;
  /// if it is stuck in a share, it is answered EINTR soon.
  bool interrupt(std::uint64_t unique);
  /// Interrupts::ends_request()
  [[nodiscard]] bool ends_request(std::uint64_t unique, pid_t caller, std::uint32_t opcode);
  /// Looks after stuck and waiting requests; to be called every few milliseconds while needs_care().
  void care(TimePoint now);
  [[nodiscard]] bool needs_care() const noexcept { return troubles_.load() != 0 || interrupts_.has_any(); }

  /// The share of `lane` is taken away: callers that are stuck in it or wait for it are answered `error`.
  void give_up(Lane& lane, int error);
  /// The callers that wait in a share, in a thread or for one.
  [[nodiscard]] std::vector<Lane::Caller> callers(const Lane& lane) const;

 private:
  // Lanes.
  [[nodiscard]] std::size_t most_inside() const noexcept;
  void note_waiting(Lane& lane, std::uint64_t unique);
  void stopped_waiting(std::size_t count = 1) noexcept { troubles_.fetch_sub(count, std::memory_order_relaxed); }
  /// A request is taken out of its lane to be handled. Acknowledged pages count until they are written: other requests
  /// on their node have to enter the lane, where they wait for them.
  void stopped_waiting(const Lane::Waiting& taken) noexcept {
    if (!taken.is_unwritten()) stopped_waiting();
  }
  void handle(RequestSlot& slot, Lane& lane, Lane::Epoch epoch, Lane::Waiting waiting, RequestRecord* record);
  void handle_apart(Lane& lane, Lane::Epoch epoch, Lane::Waiting waiting);
  void handle_apart(Lane& lane, Lane::Epoch epoch, std::deque<Lane::Waiting> all);
  bool come_back(RequestSlot& slot, Lane& lane);
  void leave(Lane& lane, Lane::Epoch epoch, TimePoint now);
  void refuse(Lane::Waiting& waiting, int error);
  bool answer_waiting(Lane& lane, std::uint64_t unique, int error);
  bool interrupt_waiting(std::uint64_t unique);

  // Care.
  void look_at(RequestSlot& slot, TimePoint now, bool look_for_exits);
  void note_stuck(RequestSlot& slot);
  void answer_known(RequestSlot& slot, std::uint64_t unique);
  void answer_overdue(RequestSlot& slot, std::uint64_t unique, TimePoint now);
  void answer_overdue(Lane& lane, TimePoint now);
  void answer_interrupts(const std::vector<RequestSlot*>& slots, TimePoint now);
  void interrupt_stuck(RequestSlot& slot, std::uint64_t unique);
  void look_at_lanes(TimePoint now, bool look_for_exits);
  void answer_ended(Lane& lane);
  void answer_ended(Lane& lane, const Lane::Caller& caller);

  // Pages.
  void acknowledge(RequestSlot& slot, std::uint64_t unique, TimePoint now);
  void acknowledge(Lane& lane, TimePoint now);
  void end_write_back(RequestSlot& slot);
  void drop_kept(std::optional<std::uint32_t> slot) noexcept {
    if (slot) unwritten_->drop(*slot);
  }

  const Setup setup_;
  Handle handle_;
  std::function<void()> wake_;
  std::function<void(std::uint64_t)> note_parked_;
  UnwrittenPages not_kept_{nullptr};
  UnwrittenPages* unwritten_ = &not_kept_;

  RequestSlots slots_;
  Interrupts interrupts_;
  std::atomic<std::size_t> troubles_{0};  ///< threads that are stuck, requests that wait, unwritten pages
  std::atomic<std::size_t> stuck_{0};     ///< threads

  Mutex mutex_;
  std::vector<Lane*> lanes_ BERTH_GUARDED_BY(mutex_);  ///< in which a request waits, or waited at the last check
  std::size_t apart_ BERTH_GUARDED_BY(mutex_) = 0;     ///< threads of this object's own
  ConditionVariable apart_ended_;

  TimePoint look_for_exits_{};  ///< when care() looks next for programs that end
  std::size_t exit_looks_ = 0;
};

}  // namespace berth::fuse
