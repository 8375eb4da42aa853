#include "fuse/control/control_handles.h"

#include <malloc.h>

#include <cerrno>
#include <utility>

namespace berth::fuse {

std::size_t ControlHandle::bytes() const noexcept {
  if (const auto* text = std::get_if<Text>(&content)) return text->capacity();
  const auto* listing = std::get_if<Listing>(&content);
  if (listing == nullptr) return 0;
  std::size_t sum = listing->capacity() * sizeof(Listed);
  for (const Listed& entry : *listing) sum += entry.name.capacity();
  return sum;
}

Result<std::uint64_t> ControlHandles::add(std::shared_ptr<ControlHandle> handle) {
  MutexLock lock(mutex_);
  TRY_VOID(insert(next_, std::move(handle)));
  return next_++;
}

Result<> ControlHandles::put(std::uint64_t number, std::shared_ptr<ControlHandle> handle) {
  MutexLock lock(mutex_);
  return insert(number, std::move(handle));
}

Result<> ControlHandles::insert(std::uint64_t number, std::shared_ptr<ControlHandle> handle) {
  const std::size_t bytes = handle->bytes();
  if (handles_.size() >= kMaxHandles) return fail(EMFILE);
  // One is always let in, however large.
  if (!handles_.empty() && bytes_ + bytes > kMaxBytes) return fail(EAGAIN);
  if (handles_.emplace(number, std::move(handle)).second) bytes_ += bytes;
  return {};
}

std::shared_ptr<ControlHandle> ControlHandles::find(std::uint64_t number) const {
  MutexLock lock(mutex_);
  const auto found = handles_.find(number);
  return found == handles_.end() ? nullptr : found->second;
}

void ControlHandles::remove(std::uint64_t number) {
  std::shared_ptr<ControlHandle> removed;
  {
    MutexLock lock(mutex_);
    const auto found = handles_.find(number);
    if (found == handles_.end()) return;
    removed = std::move(found->second);
    handles_.erase(found);
    bytes_ -= removed->bytes();
  }
  const bool is_large = removed->bytes() >= kLarge;
  removed.reset();
  // Of a text of thousands of shares, and of what it was made from, malloc(3) would keep megabytes.
  if (is_large) ::malloc_trim(0);
}

std::size_t ControlHandles::size() const {
  MutexLock lock(mutex_);
  return handles_.size();
}

}  // namespace berth::fuse
