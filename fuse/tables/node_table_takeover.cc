#include <algorithm>
#include <array>
#include <vector>

#include "fuse/tables/node_part.h"

/// How the table goes on over what a dead server has left.
namespace berth::fuse {

void NodeTable::recover() {
  std::array<PlaceStore*, kParts> stores{};
  std::vector<bool> names(std::size_t{area_.pages} * (NodeArea::kPageSize / 16));
  for (std::size_t i = 0; i < kParts; ++i) {
    Part& part = *parts_[i];
    MutexLock lock(part.mutex);
    part.recover();
    stores[i] = &part.names();
    for (std::uint32_t place = 0; place < part.places(); ++place) {
      if (part.in_use(place)) names[part.record(place).place] = true;
    }
  }
  PlaceStore::recover(area_, stores, names);
  for (const auto& part : parts_) {
    std::vector<NodeId> parents;
    {
      MutexLock lock(part->mutex);
      for (std::uint32_t place = 0; place < part->places(); ++place) {
        if (part->in_use(place)) parents.push_back(part->where(place).parent);
      }
    }
    for (const NodeId parent : parents) static_cast<void>(hold(parent));
  }
}

bool NodeTable::was_changed_by(NodeId node, std::uint64_t tag) const {
  if (is_root(node)) return true;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  return place == kNoPlace || (part.record(place).lookups & ~NodeRecord::kCountMask) == tag;
}

bool NodeTable::is_new(NodeId node) const {
  if (is_root(node)) return false;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  return place != kNoPlace && part.record(place).count() == 1;
}

std::vector<BackingId> NodeTable::free_unneeded() {
  std::vector<BackingId> unused;
  for (const auto& part : parts_) {
    std::vector<NodeId> parents;
    {
      MutexLock lock(part->mutex);
      for (std::uint32_t place = 0; place < part->places(); ++place) {
        if (!part->in_use(place)) continue;
        if (part->at(place).open_count == 0) {
          const BackingId backing = part->record(place).backing.exchange(kNoBacking);
          if (backing != kNoBacking) unused.push_back(backing);
        }
        Part::Remains remains;
        part->free_if_unneeded(place, remains);
        if (remains.parent != 0) parents.push_back(remains.parent);
      }
    }
    for (const NodeId parent : parents) release(parent);
  }
  return unused;
}

std::vector<BackingId> NodeTable::lent() const {
  std::vector<BackingId> ids;
  for (const auto& part : parts_) {
    MutexLock lock(part->mutex);
    for (std::uint32_t place = 0; place < part->places(); ++place) {
      if (part->in_use(place) && part->record(place).backing != kNoBacking) ids.push_back(part->record(place).backing);
    }
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

bool NodeTable::restore_handle(NodeId node, const SharedFd& file, std::uint32_t mount_generation) {
  if (is_root(node)) return true;
  Part& part = part_of(node);
  std::weak_ptr<const UniqueFd> opened = file;
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  if (place == kNoPlace) return false;
  part.add_handle(place, opened, mount_generation);
  return true;
}

}  // namespace berth::fuse
