#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "fuse/session/request_slot.h"

/// The request that the calling thread handles now. A thread that handles none (in tests) may call everything: its
/// answers are sent, and nothing is noted.
namespace berth::fuse::this_request {

/// The calling thread's; null: it handles no requests. Only Thread changes it.
extern thread_local constinit RequestSlot* slot;

/// Makes the calling thread one that handles requests, for a scope.
class Thread {
 public:
  explicit Thread(RequestSlots& slots) : own_(slots.acquire()), outer_(std::exchange(this_request::slot, &own_)) {}
  ~Thread() {
    this_request::slot = outer_;
    RequestSlots::release(own_);
  }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  [[nodiscard]] RequestSlot& slot() const noexcept { return own_; }

 private:
  RequestSlot& own_;
  RequestSlot* const outer_;
};

/// Whether the answer to `unique` must still be sent. If so, no other thread sends one.
bool may_answer(std::uint64_t unique) noexcept;
/// From here on the owner of the request answers it, on any thread. False: it is answered already.
bool hand_on() noexcept;
/// The answer if the share does not answer soon: an errno value, or 0 and a body.
void set_known(int error, std::string body);

/// The number of the request, before hand_on(); 0: none.
inline std::uint64_t number() noexcept {
  return slot != nullptr ? slot->word.load(std::memory_order_relaxed) & ~RequestSlot::kClaimed : 0;
}
inline std::uint32_t opcode() noexcept { return slot != nullptr ? slot->opcode.load(std::memory_order_relaxed) : 0; }
/// It changes something, though its opcode does not say so.
inline void set_changes() noexcept {
  if (slot != nullptr) slot->changes.store(true, std::memory_order_relaxed);
}
inline bool changes() noexcept { return slot != nullptr && slot->changes.load(std::memory_order_relaxed); }
/// The pages that it writes back have been written.
inline void set_written() noexcept {
  if (slot != nullptr) slot->is_written.store(true, std::memory_order_relaxed);
}
/// Another thread has answered it: what it brings is not told to its caller.
inline bool is_given_up() noexcept {
  return slot != nullptr && (slot->word.load(std::memory_order_relaxed) & RequestSlot::kClaimed) != 0;
}
/// The record in which the thread notes what it does.
inline void set_record(RequestRecord* record) noexcept {
  if (slot != nullptr) slot->record.store(record, std::memory_order_relaxed);
}

}  // namespace berth::fuse::this_request
