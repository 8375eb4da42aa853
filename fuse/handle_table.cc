#include "fuse/handle_table.h"

#include <utility>

namespace berth::fuse {

std::uint64_t HandleTable::add(std::shared_ptr<Handle> handle) {
  const auto number = static_cast<std::uint64_t>(handle->fd());
  const std::size_t place = number / kParts;
  Part& part = parts_[number % kParts];
  MutexLock lock(part.mutex);
  if (part.handles.size() <= place) part.handles.resize(place + 1);
  part.handles[place] = std::move(handle);
  return number;
}

std::shared_ptr<Handle> HandleTable::find(std::uint64_t number, NodeId node) const {
  const std::size_t place = number / kParts;
  const Part& part = parts_[number % kParts];
  MutexLock lock(part.mutex);
  if (place >= part.handles.size() || part.handles[place] == nullptr) return nullptr;
  return part.handles[place]->node == node ? part.handles[place] : nullptr;
}

std::shared_ptr<Handle> HandleTable::remove(std::uint64_t number, NodeId node) {
  const std::size_t place = number / kParts;
  Part& part = parts_[number % kParts];
  MutexLock lock(part.mutex);
  if (place >= part.handles.size() || part.handles[place] == nullptr) return nullptr;
  if (part.handles[place]->node != node) return nullptr;
  return std::move(part.handles[place]);
}

std::vector<std::shared_ptr<Handle>> HandleTable::of_share(ShareIndex share) const {
  std::vector<std::shared_ptr<Handle>> found;
  for (const Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const auto& handle : part.handles) {
      if (handle != nullptr && handle->share == share) found.push_back(handle);
    }
  }
  return found;
}

std::shared_ptr<Handle> HandleTable::find_any(NodeId node) const {
  for (const Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const auto& handle : part.handles) {
      if (handle != nullptr && handle->node == node) return handle;
    }
  }
  return nullptr;
}

std::size_t HandleTable::size() const {
  std::size_t count = 0;
  for (const Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const auto& handle : part.handles)
      if (handle != nullptr) ++count;
  }
  return count;
}

}  // namespace berth::fuse
