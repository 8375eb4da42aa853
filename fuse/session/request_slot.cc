#include "fuse/session/request_slot.h"

namespace berth::fuse {
namespace {

/// The number of a request in its record: without the bit of a resent request.
constexpr std::uint64_t noted_number(std::uint64_t unique) noexcept { return unique & ~protocol::kUniqueResend; }

}  // namespace

void RequestSlot::begin(const fuse_in_header& header, RequestRecord* noted_in, Lane* entered,
                        std::uint64_t begins_as) noexcept {
  node.store(header.nodeid, std::memory_order_relaxed);
  opcode.store(header.opcode, std::memory_order_relaxed);
  pid.store(static_cast<pid_t>(header.pid), std::memory_order_relaxed);
  uid.store(header.uid, std::memory_order_relaxed);
  record.store(noted_in, std::memory_order_relaxed);
  lane.store(entered, std::memory_order_relaxed);
  if (changes.load(std::memory_order_relaxed)) changes.store(false, std::memory_order_relaxed);
  if (written_back.load(std::memory_order_relaxed) != 0) written_back.store(0, std::memory_order_relaxed);
  serial.store(serial.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  // An INTERRUPT has no answer of its own, and its number is that of the request with the bit of a claim.
  word.store(header.opcode == FUSE_INTERRUPT ? 0 : begins_as, std::memory_order_release);
}

void RequestSlot::begin_write_back(const protocol::Message& request) noexcept {
  const std::uint32_t size = protocol::size_written_back(request);
  if (size == 0) return;
  is_written.store(false, std::memory_order_relaxed);
  {
    MutexLock lock(mutex);
    message = request.bytes;
    kept.reset();
  }
  written_back.store(size, std::memory_order_relaxed);
}

bool RequestSlot::claim(std::uint64_t unique) noexcept {
  if (!word.compare_exchange_strong(unique, unique | kClaimed)) return false;
  // If the server dies now, the kernel does not know what the thread has done for the request so far.
  if (RequestRecord* const noted_in = record.load(std::memory_order_relaxed)) {
    std::uint64_t noted = noted_number(unique);
    noted_in->unique.compare_exchange_strong(noted, noted | RequestRecord::kGivenUp);
  }
  return true;
}

RequestSlot& RequestSlots::acquire() {
  MutexLock lock(mutex_);
  for (const auto& slot : slots_) {
    if (slot->free.exchange(false, std::memory_order_acquire)) return *slot;
  }
  slots_.push_back(std::make_unique<RequestSlot>());
  return *slots_.back();
}

std::vector<RequestSlot*> RequestSlots::in_use() const {
  std::vector<RequestSlot*> all;
  MutexLock lock(mutex_);
  all.reserve(slots_.size());
  for (const auto& slot : slots_) {
    if (!slot->free.load(std::memory_order_relaxed)) all.push_back(slot.get());
  }
  return all;
}

std::uint64_t RequestSlots::handled() const {
  MutexLock lock(mutex_);
  std::uint64_t all = 0;
  for (const auto& slot : slots_) all += slot->serial.load(std::memory_order_relaxed) / 2;
  return all;
}

}  // namespace berth::fuse
