#include <chrono>
#include <utility>

#include "fuse/session/in_flight.h"
#include "fuse/wire/protocol.h"
#include "src/lib/base/crash_point.h"

// Pages that the kernel writes back: when they are acknowledged before they are written, and what is kept of them.

namespace berth::fuse {
namespace {

std::string_view bytes_of(const fuse_write_out& answer) {
  return {reinterpret_cast<const char*>(&answer), sizeof answer};
}

}  // namespace

void InFlight::keep_in(UnwrittenPages& unwritten) {
  unwritten_ = &unwritten;
  for (UnwrittenPages::Inherited& one : unwritten.inherited()) {
    Lane::Waiting waiting = Lane::Waiting::of(protocol::Message(one.message), std::chrono::steady_clock::now());
    Lane* const lane = lane_of(waiting.node, waiting.opcode);
    if (lane == nullptr || waiting.written_back == 0) {
      unwritten.drop(one.slot);
      continue;
    }
    waiting.kept = one.slot;
    waiting.answered = true;
    const std::uint64_t unique = waiting.unique;
    troubles_.fetch_add(1, std::memory_order_relaxed);
    lane->take_over(std::move(waiting));
    note_waiting(*lane, unique);
  }
}

/// The kernel has close(2), msync(2) and the end of a process wait for pages that it writes back, and no signal ends
/// that. So it is told that they are written. The next fsync(2) or close(2) waits until they are, or is told the error.
void InFlight::acknowledge(RequestSlot& slot, std::uint64_t unique, TimePoint now) {
  const std::uint32_t size = slot.written_back.load(std::memory_order_relaxed);
  Lane* const lane = slot.stuck.load(std::memory_order_relaxed);
  if (size == 0 || lane == nullptr) return;
  if (now - slot.since.load(std::memory_order_relaxed) < Lane::kWriteBackPatience) return;
  const std::uint64_t node = slot.node.load(std::memory_order_relaxed);
  {
    MutexLock lock(slot.mutex);  // its thread does not end the request meanwhile
    if (slot.message.empty() || slot.kept || slot.word.load() != unique) return;
    slot.kept = unwritten_->keep(slot.message);
    if (!slot.kept) return;
  }
  lane->add_unwritten(node, unique);
  if (!slot.claim(unique)) {
    lane->remove_unwritten(node, unique);
    return;
  }
  setup_.answer(unique, 0, bytes_of({.size = size, .padding = 0}));
  crash_point("pages-acknowledged");
}

void InFlight::acknowledge(Lane& lane, TimePoint now) {
  const auto keep_copy = [this](std::span<const char> message) { return unwritten_->keep(message); };
  for (const Lane::Acknowledged& one : lane.acknowledge(now, keep_copy)) {
    setup_.answer(one.unique, 0, bytes_of({.size = one.size, .padding = 0}));
    crash_point("pages-acknowledged");
  }
}

void InFlight::end_write_back(RequestSlot& slot) {
  std::optional<std::uint32_t> kept;
  {
    MutexLock lock(slot.mutex);
    slot.message = {};
    kept = std::exchange(slot.kept, std::nullopt);
  }
  const std::uint64_t word = slot.word.load(std::memory_order_acquire);
  const bool is_claimed = (word & RequestSlot::kClaimed) != 0;
  const std::uint64_t node = slot.node.load(std::memory_order_relaxed);
  if (is_claimed && !slot.is_written.load(std::memory_order_relaxed)) setup_.note_lost_pages(node);
  if (kept) crash_point("pages-done");
  // Before others may write to the file: the next server would write these pages again.
  drop_kept(kept);
  Lane* const stuck = slot.stuck.load(std::memory_order_acquire);
  Lane* const lane = stuck != nullptr ? stuck : slot.lane.load(std::memory_order_relaxed);
  if (is_claimed && lane != nullptr) lane->remove_unwritten(node, word & ~RequestSlot::kClaimed);
}

}  // namespace berth::fuse
