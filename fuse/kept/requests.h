#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "fuse/kept/kept_state.h"
#include "fuse/wire/protocol.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// The identity of a file as long as it is open.
struct FileKey {
  std::uint32_t device = 0;  ///< as RealFile
  std::uint64_t inode = 0;
  friend bool operator==(const FileKey&, const FileKey&) = default;
};

/// What is known of the first attempt at a request, by a server that died over it.
struct FirstAttempt {
  IntentRecord::Kind intent = IntentRecord::kNone;
  FileKey file;
  std::uint64_t size = 0;
};

/// Instead of a number: a FORGET, which has no answer.
inline constexpr std::uint64_t kForget = ~std::uint64_t{0};

/// Tags the record of a node with the note of `record` that changed it last; above the count of its look-ups.
std::uint64_t tag_of(const RequestRecord& record) noexcept;

/// The records of requests that are being handled, and what a dead server has left of its own.
///
/// Threading: any thread; take_over() and finish_forgets() before there is another one.
class Requests {
 public:
  /// What a dead server did for a request that it did not answer.
  struct Interrupted {
    std::vector<std::uint64_t> counted;  ///< nodes of which it counted a look-up
    std::vector<std::uint64_t> handles;  ///< that it has put into the table
    FirstAttempt first_attempt;
  };
  using Undo = std::function<void(const Interrupted&)>;
  using Process = std::function<void(const protocol::Message&)>;
  /// Whether the last change of `node`'s record is the one with this tag, or the node is gone.
  using WasApplied = std::function<bool(std::uint64_t node, std::uint64_t tag)>;
  /// Whether the kernel waits for the answer to the request with that number.
  using IsAwaited = std::function<bool(std::uint64_t unique)>;

  /// Answers a request, as it was read, with an error, and logs it: the request has killed kMostDeaths servers.
  using Refuse = std::function<void(const protocol::Message&)>;

  /// A request that was being handled when so many servers crashed is not handled again.
  static constexpr std::uint32_t kMostDeaths = 2;

  /// `area`: null where there will be no next server. Without `is_awaited`, all requests count as awaited that were not
  /// done; without `refuse`, a request may kill any number of servers.
  explicit Requests(RequestArea* area, IsAwaited is_awaited = {}, Refuse refuse = {}) noexcept
      : area_(area), is_awaited_(std::move(is_awaited)), refuse_(std::move(refuse)) {}

  /// A record for a thread, where its requests are read into. Null: there is none, or none is needed.
  RequestRecord* acquire() noexcept;
  /// A record that a message was read into.
  void release(RequestRecord* record) noexcept;

  /// Call it before each read into the record. The kernel answers EIO to a request that it cannot copy to the server,
  /// and a missing page makes the copy fail when the server is killed at that moment. So this takes the pages for a
  /// request as large as the largest so far. `ready` is the number of bytes of the record that have pages already, 0 at
  /// first.
  void make_ready(RequestRecord* record, std::size_t& ready) const noexcept;

  /// A request was read and is parked; for a kernel that does not send it again. It is known until it is answered, or
  /// some thousands were parked after it and too many of these wait.
  void note_parked(std::uint64_t unique) noexcept;

  /// A record for a scope.
  class Borrowed {
   public:
    explicit Borrowed(Requests* from) noexcept : from_(from), record_(from != nullptr ? from->acquire() : nullptr) {}
    ~Borrowed() {
      if (record_ != nullptr) from_->give_back(record_);
    }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    [[nodiscard]] RequestRecord* get() const noexcept { return record_; }

   private:
    Requests* const from_;
    RequestRecord* const record_;
  };

  /// Reads what a dead server has left, before anything changes it. Calls `undo` with what the server did for a request
  /// that the kernel sends again.
  void take_over(const WasApplied& was_applied, Undo undo);
  /// Handles that were put into the table by requests that the kernel will send again; after take_over().
  [[nodiscard]] std::vector<std::uint64_t> inherited_handles();
  /// Numbers of all requests that may have been read and not answered; after take_over(). For a kernel that does not
  /// send them again.
  [[nodiscard]] std::vector<std::uint64_t> unanswered();
  /// Undoes what was done for requests that the kernel will not send again, once they are answered.
  void undo_all();
  /// Whether something is left of requests that the kernel has not sent again yet.
  [[nodiscard]] bool has_interrupted() const noexcept {
    return interrupted_count_.load(std::memory_order_relaxed) != 0;
  }
  /// Undoes what was done for requests that do not come again: their callers were killed before the requests were read
  /// again. Call it only when all requests that the kernel was asked to send again have been read.
  void drop_abandoned();
  /// Does the FORGETs that were read and not done: the kernel does not send them again.
  void finish_forgets(const Process& process);

  /// Handles a request that was read into `record`. Null: it was read elsewhere, and its number is kept alone.
  void handle(RequestRecord* record, const protocol::Message& message, const Process& process);

 private:
  friend class CurrentRequest;
  struct InterruptedForget {
    RequestRecord* record;
    std::uint32_t first;  ///< entries before this one have been done
  };
  struct InterruptedRequest {
    std::vector<RequestRecord*> records;
    Interrupted what;
    std::uint32_t deaths = 0;  ///< servers that died while it was handled, by faults of their own
  };

  void give_back(RequestRecord* record) noexcept;
  static void add(Interrupted& interrupted, const RequestRecord& record, const WasApplied& was_applied);
  std::optional<InterruptedRequest> find_interrupted(std::uint64_t unique);
  void finish(const InterruptedRequest& interrupted);
  std::uint32_t count_death(RequestRecord& record, bool crashed, bool is_known_which) const noexcept;

  RequestArea* const area_;
  const IsAwaited is_awaited_;
  const Refuse refuse_;
  Undo undo_;
  std::vector<InterruptedForget> forgets_;
  std::vector<std::uint64_t> read_;  ///< numbers of what a dead server has read last; not all of it is answered
  std::atomic<std::size_t> interrupted_count_{0};  ///< of interrupted_

  Mutex mutex_;
  std::vector<RequestRecord*> free_ BERTH_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, InterruptedRequest> interrupted_
      BERTH_GUARDED_BY(mutex_);  ///< by the request's number
};

/// The request that the calling thread handles now. Every request is handled within one of these. It writes into the
/// shared memory what a successor has to know of the request.
///
/// A thread may have none (in tests, and where there will be no successor): then nothing is noted.
class CurrentRequest {
 public:
  /// `record`: null where nothing must be noted. `unique`: the request's number without the bit that marks a resent
  /// request; kForget: it has no answer. `first_attempt`: null when it is handled for the first time. `requests`: where
  /// it is noted when it is parked.
  CurrentRequest(RequestRecord* record, std::uint64_t unique, const FirstAttempt* first_attempt,
                 std::uint32_t deaths = 0, Requests* requests = nullptr) noexcept;
  ~CurrentRequest();
  CurrentRequest(const CurrentRequest&) = delete;
  CurrentRequest& operator=(const CurrentRequest&) = delete;

  /// The calling thread has got a signal that ends the server. Async-signal-safe.
  static void note_fatal() noexcept;

  /// Notes one look-up more of `node`. Answers the tag that marks the change in the node's record, made right after.
  static std::uint64_t note_look_up(std::uint64_t node) noexcept;
  /// Notes that the FORGET at `index` of this request is being done.
  static void note_forget(std::uint32_t index) noexcept;
  /// The tag of the FORGET that was noted last.
  [[nodiscard]] static std::uint64_t tag() noexcept;
  static void note_handle(std::uint64_t handle) noexcept;
  static void note_intent(IntentRecord::Kind kind, const FileKey& file = {}, std::uint64_t size = 0) noexcept;
  [[nodiscard]] static const FirstAttempt* first_attempt() noexcept;
  /// What the request has counted (look-ups) is about to be taken back, because its caller does not get the answer. If
  /// the server dies over it, they are counted too often, which is harmless; what is taken back twice is not.
  static void note_taken_back() noexcept;
  /// A change that must not be made twice has ended, with an errno value or 0. One that a dead mount cut short
  /// (ECONNABORTED) may have been made.
  static void note_change_ended(int code) noexcept;
  /// Whether one was made, or may have been.
  [[nodiscard]] static bool may_have_changed() noexcept;
  /// Whether anything is noted, for a successor.
  [[nodiscard]] static bool is_noted() noexcept;
  /// Whether the kernel has sent this request before, to a server that died.
  [[nodiscard]] static bool is_resent() noexcept;
  /// The request is answered later, by another thread.
  static void note_parked() noexcept;
  /// The number of the request; 0 when there is none.
  [[nodiscard]] static std::uint64_t unique() noexcept;
  /// The kernel's number of the waiter, of a POLL; 0 where nothing is noted.
  [[nodiscard]] static std::uint64_t poll_number() noexcept;
  /// The index of the first FORGET of this request that is still to be done.
  [[nodiscard]] static std::uint32_t first_forget() noexcept;

 private:
  friend class Requests;
  explicit CurrentRequest(const Requests::InterruptedForget& interrupted) noexcept;

  static thread_local constinit CurrentRequest* current_;

  Requests* const requests_;
  RequestRecord* const record_;
  const std::uint64_t unique_;
  const FirstAttempt* const first_attempt_;
  CurrentRequest* const outer_;
  std::uint32_t first_forget_ = 0;
  bool resent_ = false;
  bool may_have_changed_ = false;
};

}  // namespace berth::fuse
