#include "fuse/tables/handle_table.h"

#include <algorithm>
#include <utility>

#include "fuse/kept/requests.h"
#include "src/lib/base/crash_point.h"

namespace berth::fuse {

HandleTable::Slot* HandleTable::Part::find(std::uint64_t number, NodeId node) {
  const std::size_t place = descriptor_of(number) / kParts;
  if (place >= slots.size() || slots[place].handle == nullptr) return nullptr;
  Slot& slot = slots[place];
  return slot.sequence == sequence_of(number) && slot.handle->node == node ? &slot : nullptr;
}

void HandleTable::make_room(int descriptor) {
  const std::size_t place = static_cast<std::uint32_t>(descriptor) / kParts;
  Part& part = parts_[static_cast<std::uint32_t>(descriptor) % kParts];
  MutexLock lock(part.mutex);
  if (part.slots.size() <= place) part.slots.resize(place + 1);
}

std::uint64_t HandleTable::add(std::shared_ptr<Handle> handle) {
  open_files_.add(handle->uid, handle->fd());
  const auto descriptor = static_cast<std::uint32_t>(handle->fd());
  const std::size_t place = descriptor / kParts;
  Part& part = parts_[descriptor % kParts];
  MutexLock lock(part.mutex);
  if (part.slots.size() <= place) part.slots.resize(place + 1);
  Slot& slot = part.slots[place];
  const HandleRecord* const record = record_of(descriptor);
  const std::uint32_t sequence = (record != nullptr ? record->sequence : slot.sequence) + 1;
  const std::uint64_t number = std::uint64_t{sequence} << 32 | descriptor;
  CurrentRequest::note_handle(number);
  note(*handle, descriptor, sequence);
  crash_point("handle-done");
  slot = {std::move(handle), sequence};
  return number;
}

void HandleTable::note(const Handle& handle, std::uint32_t descriptor, std::uint32_t sequence) const noexcept {
  HandleRecord* const record = record_of(descriptor);
  if (record == nullptr) return;
  record->sequence = sequence;
  record->share = handle.share;
  record->device = handle.device;
  record->identity = handle.identity;
  record->mount_generation = handle.mount_generation;
  record->flags = handle.flags;
  record->pid = handle.pid;
  record->uid = handle.uid;
  record->reading = 0;
  record->kind = handle.directory ? HandleRecord::kDirectory : HandleRecord::kFile;
  std::uint32_t end = area_->end;
  while (end <= descriptor && !area_->end.compare_exchange_weak(end, descriptor + 1)) {
  }
  record->node.store(handle.node, std::memory_order_release);
}

std::shared_ptr<Handle> HandleTable::find(std::uint64_t number, NodeId node) const {
  Part& part = parts_[descriptor_of(number) % kParts];
  MutexLock lock(part.mutex);
  const Slot* const slot = part.find(number, node);
  return slot != nullptr ? slot->handle : nullptr;
}

NodeId HandleTable::node_of(std::uint64_t number) const {
  const std::size_t place = descriptor_of(number) / kParts;
  Part& part = parts_[descriptor_of(number) % kParts];
  MutexLock lock(part.mutex);
  if (place >= part.slots.size() || part.slots[place].handle == nullptr) return 0;
  return part.slots[place].sequence == sequence_of(number) ? part.slots[place].handle->node : 0;
}

std::shared_ptr<Handle> HandleTable::remove(std::uint64_t number, NodeId node) {
  std::shared_ptr<Handle> removed;
  {
    Part& part = parts_[descriptor_of(number) % kParts];
    MutexLock lock(part.mutex);
    Slot* const slot = part.find(number, node);
    if (slot == nullptr) return nullptr;
    // Before the descriptor is closed: from then on its number may be another's.
    if (HandleRecord* const record = record_of(descriptor_of(number))) record->node = 0;
    crash_point("release-done");
    removed = std::exchange(slot->handle, nullptr);
  }
  open_files_.remove(removed->uid);
  return removed;
}

std::vector<HandleTable::Inherited> HandleTable::left() const {
  std::vector<Inherited> left;
  const std::uint32_t end = area_ != nullptr ? area_->end.load() : 0;
  for (std::uint32_t descriptor = 0; descriptor < end; ++descriptor) {
    const HandleRecord& record = area_->handles[descriptor];
    if (record.node != 0) left.push_back({std::uint64_t{record.sequence} << 32 | descriptor, &record});
  }
  return left;
}

void HandleTable::take_over(std::uint64_t number, std::shared_ptr<Handle> handle) {
  make_room(handle->fd());
  open_files_.add(handle->uid, handle->fd());
  const std::size_t place = descriptor_of(number) / kParts;
  Part& part = parts_[descriptor_of(number) % kParts];
  MutexLock lock(part.mutex);
  part.slots[place] = {std::move(handle), sequence_of(number)};
}

void HandleTable::note_mount(const Handle& handle) const noexcept {
  HandleRecord* const record = record_of(static_cast<std::uint32_t>(handle.fd()));
  if (record != nullptr) record->mount_generation = handle.mount_generation;
}

void HandleTable::note_reading(const Handle& handle, bool reads) const noexcept {
  HandleRecord* const record = record_of(static_cast<std::uint32_t>(handle.fd()));
  if (record != nullptr) record->reading.store(reads ? 1 : 0, std::memory_order_relaxed);
}

void HandleTable::forget(std::uint64_t number) noexcept {
  if (HandleRecord* const record = record_of(descriptor_of(number))) record->node = 0;
}

void HandleTable::each_of_share(ShareIndex share, const std::function<void(const Handle&)>& show) const {
  for (Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const Slot& slot : part.slots) {
      if (slot.handle != nullptr && slot.handle->share == share) show(*slot.handle);
    }
  }
}

std::shared_ptr<Handle> HandleTable::find_any(NodeId node) const {
  for (Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const Slot& slot : part.slots) {
      if (slot.handle != nullptr && slot.handle->node == node) return slot.handle;
    }
  }
  return nullptr;
}

std::size_t HandleTable::size() const {
  std::size_t count = 0;
  for (Part& part : parts_) {
    MutexLock lock(part.mutex);
    count += static_cast<std::size_t>(
        std::count_if(part.slots.begin(), part.slots.end(), [](const Slot& slot) { return slot.handle != nullptr; }));
  }
  return count;
}

}  // namespace berth::fuse
