#include <algorithm>
#include <array>
#include <vector>

#include "fuse/tables/node_part.h"

/// How the table takes over what a dead server has left.
namespace berth::fuse {

void NodeTable::take_over() {
  std::array<DentryStore*, kParts> stores{};
  std::vector<bool> names(std::size_t{area_.pages} * (NodeArea::kPageSize / 16));
  for (std::size_t i = 0; i < kParts; ++i) {
    Part& part = *parts_[i];
    MutexLock lock(part.mutex);
    part.take_over();
    stores[i] = &part.names();
    for (std::uint32_t slot = 0; slot < part.slots(); ++slot) {
      if (part.in_use(slot)) names[part.record(slot).dentry] = true;
    }
  }
  DentryStore::take_over(area_, stores, names);
  for (const auto& part : parts_) {
    std::vector<NodeId> parents;
    {
      MutexLock lock(part->mutex);
      for (std::uint32_t slot = 0; slot < part->slots(); ++slot) {
        if (part->in_use(slot)) parents.push_back(part->dentry(slot).parent);
      }
    }
    for (const NodeId parent : parents) static_cast<void>(hold(parent));
  }
}

bool NodeTable::was_applied_to(NodeId node, std::uint64_t tag) const {
  if (is_root(node)) return true;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  return slot == kNoSlot || (part.record(slot).lookups & ~NodeRecord::kCountMask) == tag;
}

bool NodeTable::is_new(NodeId node) const {
  if (is_root(node)) return false;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  return slot != kNoSlot && part.record(slot).count() == 1;
}

std::vector<BackingId> NodeTable::free_unneeded() {
  std::vector<BackingId> unused;
  for (const auto& part : parts_) {
    std::vector<NodeId> parents;
    {
      MutexLock lock(part->mutex);
      for (std::uint32_t slot = 0; slot < part->slots(); ++slot) {
        if (!part->in_use(slot)) continue;
        if (part->at(slot).open_count == 0) {
          const BackingId backing = part->record(slot).backing.exchange(kNoBacking);
          if (backing != kNoBacking) unused.push_back(backing);
        }
        Part::Freed freed_node;
        part->free_if_unneeded(slot, freed_node);
        if (freed_node.parent != 0) parents.push_back(freed_node.parent);
      }
    }
    for (const NodeId parent : parents) release(parent);
  }
  return unused;
}

std::vector<BackingId> NodeTable::registered_backings() const {
  std::vector<BackingId> ids;
  for (const auto& part : parts_) {
    MutexLock lock(part->mutex);
    for (std::uint32_t slot = 0; slot < part->slots(); ++slot) {
      if (part->in_use(slot) && part->record(slot).backing != kNoBacking) ids.push_back(part->record(slot).backing);
    }
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

bool NodeTable::take_over_handle(NodeId node, const SharedFd& file, std::uint32_t mount_generation) {
  if (is_root(node)) return true;
  Part& part = part_of(node);
  std::weak_ptr<const UniqueFd> opened = file;
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  if (slot == kNoSlot) return false;
  part.add_handle(slot, opened, mount_generation);
  return true;
}

}  // namespace berth::fuse
