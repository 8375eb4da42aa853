#pragma once

#include <linux/fuse.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fuse/kept/requests.h"
#include "fuse/session/lane.h"
#include "fuse/wire/protocol.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// What one thread does for the kernel now. One word decides which answer to its request is the first: the thread's own
/// answer clears the word, and another thread that answers for it claims the word. Only the thread that changes the
/// word answers.
///
/// Threading: the thread itself begins and ends its requests; any thread may read and claim.
struct alignas(64) RequestSlot {
  static constexpr std::uint64_t kClaimed = 1;  ///< the kernel's numbers of requests are even

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

  // Used by InFlight::care() only.
  std::uint64_t seen = 0;          ///< `serial` at the last check
  std::atomic<TimePoint> since{};  ///< when `seen` was first seen; read by others

  Mutex mutex;
  std::uint64_t known_for BERTH_GUARDED_BY(mutex) = 0;
  int known_error BERTH_GUARDED_BY(mutex) = 0;  ///< the answer to that request if the share does not give one
  std::string known BERTH_GUARDED_BY(mutex);
  /// The request, as it was read, if it writes pages back and has not ended; and where a copy of it is kept.
  std::span<const char> message BERTH_GUARDED_BY(mutex);
  std::optional<std::uint32_t> kept BERTH_GUARDED_BY(mutex);

  /// The thread handles a request from here on. `entered`: the lane that the request has entered, or null.
  void begin(const protocol::Message& request, RequestRecord* noted_in, Lane* entered) noexcept {
    if (request.header.opcode == FUSE_READ) {
      reads_pages.store(protocol::reads_pages(request), std::memory_order_relaxed);
    }
    begin(request.header, noted_in, entered, request.header.unique);
    if (request.header.opcode == FUSE_WRITE) begin_write_back(request);
  }
  /// The same of a request that has waited. `begins_as`: the first value of `word`.
  void begin(const fuse_in_header& header, RequestRecord* noted_in, Lane* entered, std::uint64_t begins_as) noexcept;
  /// If it writes pages back.
  void begin_write_back(const protocol::Message& request) noexcept;
  /// The thread has handled the request. True: it has a lane to leave.
  bool end() noexcept {
    word.store(0, std::memory_order_relaxed);
    serial.fetch_add(1, std::memory_order_seq_cst);
    return stuck.load(std::memory_order_seq_cst) != nullptr || lane.load(std::memory_order_relaxed) != nullptr;
  }

  /// The number of a request that another thread may claim; 0: there is none.
  [[nodiscard]] std::uint64_t claimable() const noexcept {
    const std::uint64_t now = word.load(std::memory_order_acquire);
    return (now & kClaimed) == 0 ? now : 0;
  }
  /// True: the calling thread, which is another one, answers the request, and no other does.
  bool claim(std::uint64_t unique) noexcept;
};

/// The slots of all threads that handle requests. A slot that a thread has left is given to the next one.
///
/// Threading: any thread may call anything.
class RequestSlots {
 public:
  RequestSlot& acquire();
  static void release(RequestSlot& slot) noexcept { slot.free.store(true, std::memory_order_release); }
  /// Those that belong to a thread.
  [[nodiscard]] std::vector<RequestSlot*> in_use() const;
  /// Requests that were handled so far.
  [[nodiscard]] std::uint64_t handled() const;

 private:
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<RequestSlot>> slots_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
