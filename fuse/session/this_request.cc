#include "fuse/session/this_request.h"

namespace berth::fuse::this_request {

thread_local constinit RequestSlot* slot = nullptr;

bool may_answer(std::uint64_t unique) noexcept {
  if (slot == nullptr) return true;
  // Before it is sent: the caller that gets the answer may take the processor from this thread right then.
  slot->answered.store(true, std::memory_order_relaxed);
  std::uint64_t mine = unique;
  return slot->word.compare_exchange_strong(mine, 0) || mine != (unique | RequestSlot::kClaimed);
}

bool hand_on() noexcept {
  if (slot == nullptr) return true;
  std::uint64_t mine = slot->word.load(std::memory_order_relaxed);
  if ((mine & RequestSlot::kClaimed) != 0) return false;
  return mine == 0 || slot->word.compare_exchange_strong(mine, 0);
}

void set_known(int error, std::string body) {
  if (slot == nullptr) return;
  MutexLock lock(slot->mutex);
  slot->known_for = slot->word.load(std::memory_order_relaxed);
  slot->known_error = error;
  slot->known.swap(body);
}

}  // namespace berth::fuse::this_request
