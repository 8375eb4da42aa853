#include <linux/fuse.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "fuse/session/in_flight.h"
#include "fuse/wire/protocol.h"
#include "src/lib/sys/other_threads.h"

// How requests are answered whose threads are stuck in a share, or that wait too long for one.

namespace berth::fuse {
namespace {

/// A thread that has been in one request of a share for so long is stuck, until it comes back.
constexpr std::chrono::milliseconds kStuck{20};
/// When a caller gets a signal, a share may take so long to answer before the request is answered EINTR: programs do
/// not expect EINTR of files.
constexpr std::chrono::milliseconds kInterruptPatience{100};
/// How often care() checks whether a caller that no INTERRUPT tells of is ending (has_ended()).
constexpr std::chrono::milliseconds kExitLook{100};
/// At how many of a lane's, and about at how many of all stuck threads' it looks each time: a user may have a thousand.
constexpr std::size_t kExitLooks = 32;

/// Whether the caller is ending, where the kernel sends no INTERRUPT that says so:
/// - A program that ends waits in the FLUSH of each of its files.
/// - No thread waits for the READ of a read-ahead as such, but its pages are locked until it is answered, and a
///   write(2) to one of them cannot be killed. If it is answered with an error, the next reader asks again.
bool has_ended(std::uint32_t opcode, bool reads_pages, pid_t caller) {
  if (opcode == FUSE_FLUSH) return sys::has_no_memory(caller);
  return opcode == FUSE_READ && reads_pages && sys::is_killed(caller);
}

int error_of_ended(std::uint32_t opcode) noexcept { return opcode == FUSE_FLUSH ? 0 : EINTR; }

}  // namespace

void InFlight::care(TimePoint now) {
  const bool look_for_exits = now >= look_for_exits_;
  if (look_for_exits) {
    look_for_exits_ = now + kExitLook;
    ++exit_looks_;
  }
  const std::vector<RequestSlot*> all = slots_.in_use();
  const std::size_t parts = 1 + stuck_threads() / kExitLooks;
  for (std::size_t i = 0; i < all.size(); ++i) {
    look_at(*all[i], now, look_for_exits && i % parts == exit_looks_ % parts);
  }
  answer_interrupts(all, now);
  if (is_troubled()) look_at_lanes(now, look_for_exits);
}

void InFlight::look_at(RequestSlot& slot, TimePoint now, bool look_for_exits) {
  const std::uint64_t serial = slot.serial.load(std::memory_order_acquire);
  if (std::exchange(slot.seen, serial) != serial) slot.since.store(now, std::memory_order_relaxed);
  if (serial % 2 == 0 || now - slot.since.load(std::memory_order_relaxed) < kStuck) return;
  if (slot.stuck.load(std::memory_order_relaxed) == nullptr) note_stuck(slot);
  const std::uint64_t unique = slot.claimable();
  if (unique == 0) return;
  answer_known(slot, unique);
  acknowledge(slot, unique, now);
  answer_overdue(slot, unique, now);
  if (!look_for_exits) return;
  const std::uint32_t opcode = slot.opcode.load(std::memory_order_relaxed);
  const bool reads_pages = slot.reads_pages.load(std::memory_order_relaxed);
  if (!has_ended(opcode, reads_pages, slot.pid.load(std::memory_order_relaxed)) || !slot.claim(unique)) return;
  setup_.answer(unique, error_of_ended(opcode), {});
}

void InFlight::note_stuck(RequestSlot& slot) {
  Lane* const entered = slot.lane.load(std::memory_order_relaxed);
  Lane* const lane = entered != nullptr ? entered : lane_of(slot.node.load(std::memory_order_relaxed));
  if (lane == nullptr || slot.serial.load(std::memory_order_acquire) != slot.seen) return;
  const Lane::Epoch epoch = lane->note_stuck(
      entered != nullptr ? std::optional(slot.entered_in.load(std::memory_order_relaxed)) : std::nullopt);
  slot.stuck_in.store(epoch, std::memory_order_relaxed);
  slot.stuck_outside.store(entered == nullptr, std::memory_order_relaxed);
  stuck_.fetch_add(1, std::memory_order_relaxed);
  troubles_.fetch_add(1, std::memory_order_relaxed);
  slot.stuck.store(lane, std::memory_order_seq_cst);
  if (slot.serial.load(std::memory_order_seq_cst) == slot.seen) return;
  // The thread has come back just now, and may not have seen this.
  if (slot.stuck.exchange(nullptr) == nullptr || !come_back(slot, *lane)) return;
  leave(*lane, epoch, std::chrono::steady_clock::now());
}

void InFlight::answer_known(RequestSlot& slot, std::uint64_t unique) {
  std::string known;
  int error = 0;
  {
    MutexLock lock(slot.mutex);
    if (slot.known_for != unique) return;
    known = slot.known;
    error = slot.known_error;
  }
  if (slot.claim(unique)) setup_.answer(unique, error, known);
}

/// A request that does not change anything need not be waited for.
void InFlight::answer_overdue(RequestSlot& slot, std::uint64_t unique, TimePoint now) {
  const Lane* const lane = slot.stuck.load(std::memory_order_relaxed);
  const Duration timeout = lane != nullptr ? lane->request_timeout() : Duration::zero();
  if (timeout <= Duration::zero() || now - slot.since.load(std::memory_order_relaxed) < timeout) return;
  if (!protocol::changes_nothing(slot.opcode.load(std::memory_order_relaxed)) || slot.changes.load()) return;
  if (slot.claim(unique)) setup_.answer(unique, ETIMEDOUT, {});
}

void InFlight::answer_overdue(Lane& lane, TimePoint now) {
  for (Lane::Waiting& one : lane.take_overdue(now)) {
    stopped_waiting();
    refuse(one, ETIMEDOUT);
  }
}

void InFlight::answer_interrupts(const std::vector<RequestSlot*>& slots, TimePoint now) {
  if (!interrupts_.has_any()) return;
  std::unordered_map<std::uint64_t, RequestSlot*> stuck;
  for (RequestSlot* const slot : slots) {
    if (now - slot->since.load(std::memory_order_relaxed) >= kInterruptPatience)
      stuck.emplace(slot->word.load(std::memory_order_acquire), slot);
  }
  interrupts_.end_requests(now, [&](std::uint64_t unique) {
    const auto found = stuck.find(unique);
    // The request may have come to a lane only after its interrupt.
    if (found == stuck.end()) return interrupt_waiting(unique);
    interrupt_stuck(*found->second, unique);
    return true;
  });
  for (const std::uint64_t again : interrupts_.take_due(now)) setup_.answer(again, EAGAIN, {});
}

void InFlight::interrupt_stuck(RequestSlot& slot, std::uint64_t unique) {
  const pid_t caller = slot.pid.load(std::memory_order_relaxed);
  const std::uint32_t opcode = slot.opcode.load(std::memory_order_relaxed);
  if (ends_request(unique, caller, opcode) && slot.claim(unique)) setup_.answer(unique, EINTR, {});
}

void InFlight::look_at_lanes(TimePoint now, bool look_for_exits) {
  std::vector<Lane*> lanes;
  {
    MutexLock lock(mutex_);
    std::erase_if(lanes_, [](const Lane* lane) { return !lane->has_waiting(); });
    lanes = lanes_;
  }
  for (Lane* const lane : lanes) {
    Lane::Epoch epoch = 0;
    if (std::optional<Lane::Waiting> next = lane->probe(now, most_inside(), epoch)) {
      stopped_waiting(*next);
      handle_apart(*lane, epoch, *std::move(next));
    }
    answer_overdue(*lane, now);
    acknowledge(*lane, now);
    if (look_for_exits) answer_ended(*lane);
  }
}

void InFlight::answer_ended(Lane& lane) {
  for (const std::uint32_t opcode : {FUSE_FLUSH, FUSE_READ}) {
    const std::vector<Lane::Caller> callers = lane.callers(opcode);
    const std::size_t parts = 1 + callers.size() / kExitLooks;
    for (std::size_t at = exit_looks_ % parts; at < callers.size(); at += parts) answer_ended(lane, callers[at]);
  }
}

void InFlight::answer_ended(Lane& lane, const Lane::Caller& caller) {
  if (!has_ended(caller.opcode, caller.reads_pages, caller.pid)) return;
  answer_waiting(lane, caller.unique, error_of_ended(caller.opcode));
}

}  // namespace berth::fuse
