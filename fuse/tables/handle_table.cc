#include "fuse/tables/handle_table.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "fuse/kept/requests.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"

namespace berth::fuse {

HandleTable::Slot* HandleTable::Part::find(std::uint64_t number, NodeId node) {
  const std::size_t index = descriptor_of(number) / kParts;
  if (index >= slots.size() || slots[index].handle == nullptr) return nullptr;
  Slot& slot = slots[index];
  return slot.sequence == sequence_of(number) && slot.handle->node == node ? &slot : nullptr;
}

void HandleTable::make_room(int descriptor) {
  const std::size_t index = static_cast<std::uint32_t>(descriptor) / kParts;
  Part& part = parts_[static_cast<std::uint32_t>(descriptor) % kParts];
  MutexLock lock(part.mutex);
  if (part.slots.size() <= index) part.slots.resize(index + 1);
}

std::uint64_t HandleTable::add(std::shared_ptr<Handle> handle) {
  open_files_.add(handle->uid, handle->fd());
  const auto descriptor = static_cast<std::uint32_t>(handle->fd());
  const std::size_t index = descriptor / kParts;
  Part& part = parts_[descriptor % kParts];
  MutexLock lock(part.mutex);
  if (part.slots.size() <= index) part.slots.resize(index + 1);
  Slot& slot = part.slots[index];
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
  record->late_error = 0;
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
  const std::size_t index = descriptor_of(number) / kParts;
  Part& part = parts_[descriptor_of(number) % kParts];
  MutexLock lock(part.mutex);
  if (index >= part.slots.size() || part.slots[index].handle == nullptr) return 0;
  return part.slots[index].sequence == sequence_of(number) ? part.slots[index].handle->node : 0;
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
  if (const int error = removed->late_error.load(); error != 0) tell_lost(removed->lease.share().name(), error);
  open_files_.remove(removed->uid);
  return removed;
}

std::vector<HandleTable::Inherited> HandleTable::inherited() const {
  std::vector<Inherited> inherited;
  const std::uint32_t end = area_ != nullptr ? area_->end.load() : 0;
  for (std::uint32_t descriptor = 0; descriptor < end; ++descriptor) {
    const HandleRecord& record = area_->handles[descriptor];
    if (record.node != 0) inherited.push_back({std::uint64_t{record.sequence} << 32 | descriptor, &record});
  }
  return inherited;
}

void HandleTable::take_over(std::uint64_t number, std::shared_ptr<Handle> handle) {
  make_room(handle->fd());
  open_files_.add(handle->uid, handle->fd());
  const std::size_t index = descriptor_of(number) / kParts;
  Part& part = parts_[descriptor_of(number) % kParts];
  MutexLock lock(part.mutex);
  part.slots[index] = {std::move(handle), sequence_of(number)};
}

void HandleTable::note_file(const Handle& handle) const noexcept {
  HandleRecord* const record = record_of(handle);
  if (record == nullptr) return;
  record->identity = handle.identity;
  record->mount_generation = handle.mount_generation;
}

std::vector<std::shared_ptr<Handle>> HandleTable::recognizable(ShareIndex share) const {
  std::vector<std::shared_ptr<Handle>> found;
  for (Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const Slot& slot : part.slots) {
      if (slot.handle != nullptr && slot.handle->share == share && slot.handle->identity != 0)
        found.push_back(slot.handle);
    }
  }
  return found;
}

void HandleTable::forget_identity(Handle& handle) const noexcept {
  handle.identity = 0;
  if (HandleRecord* const record = record_of(handle)) record->identity = 0;
}

void HandleTable::note_reading(const Handle& handle, bool reads) const noexcept {
  HandleRecord* const record = record_of(handle);
  if (record != nullptr) record->reading.store(reads ? 1 : 0, std::memory_order_relaxed);
}

void HandleTable::note_late_error(NodeId node, int error) const noexcept {
  for (Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const Slot& slot : part.slots) {
      int none = 0;
      if (slot.handle == nullptr || slot.handle->node != node) continue;
      if (!slot.handle->late_error.compare_exchange_strong(none, error)) continue;
      if (HandleRecord* const record = record_of(*slot.handle)) record->late_error = error;
    }
  }
  crash_point("late-error-noted");
}

int HandleTable::take_late_error(Handle& handle) const noexcept {
  int error = handle.late_error.load();
  if (error == 0 || !handle.late_error.compare_exchange_strong(error, 0)) return 0;
  crash_point("late-error-taken");
  return error;
}

void HandleTable::note_told(const Handle& handle) const noexcept {
  HandleRecord* const record = record_of(handle);
  if (record == nullptr || record->late_error == 0) return;
  // Another one may be noted meanwhile.
  int now = 0;
  do {
    now = handle.late_error;
    record->late_error = now;
  } while (handle.late_error != now);
}

/// What was written to a file that is closed by now is lost, and no caller can be told.
void HandleTable::tell_lost(const std::string& share, int error) {
  {
    MutexLock lock(lost_mutex_);
    if (!tells_lost_.take(std::chrono::steady_clock::now())) return;
  }
  const log::Field field{"BERTH_SHARE", share};
  log::write(log::Level::kWarning,
             fmt::format("share {}: what was written to a file that is closed now is lost: {}", quote(share),
                         Error(error).message()),
             {&field, 1});
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

std::vector<std::shared_ptr<Handle>> HandleTable::find_some(NodeId node, std::uint32_t generation) const {
  constexpr std::size_t kMost = 16;
  const auto rank = [generation](const Handle& handle) {
    if (handle.mount_generation == generation) return 0;
    return may_write(handle.flags) ? 2 : 1;
  };
  const auto is_better = [&](const std::shared_ptr<Handle>& a, const std::shared_ptr<Handle>& b) {
    return rank(*a) < rank(*b);
  };
  std::vector<std::shared_ptr<Handle>> found;
  found.reserve(kMost + 1);
  for (Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const Slot& slot : part.slots) {
      if (slot.handle == nullptr || slot.handle->node != node) continue;
      found.insert(std::upper_bound(found.begin(), found.end(), slot.handle, is_better), slot.handle);
      if (found.size() > kMost) found.pop_back();
    }
  }
  return found;
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
