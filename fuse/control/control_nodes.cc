#include "fuse/control/control_nodes.h"

#include <algorithm>
#include <utility>

#include "fuse/tables/inode_number.h"

namespace berth::fuse {

NodeId ControlNodes::id_of(const Place& place) {
  if (place.kind == Place::Kind::kRoot) return kRoot;
  // As good as unique: 2^61 numbers for a few thousand places. Not 0 and not the root's.
  constexpr std::uint64_t kKeys = (std::uint64_t{1} << kOwnerShift) - 1;
  const std::uint64_t key = InodeNumbers(path_of(place)).wide_root() & kKeys;
  return make_node_id(NodeOwner::kControl, std::max<std::uint64_t>(key, 2));
}

NodeId ControlNodes::look_up(const Place& place) {
  const NodeId id = id_of(place);
  if (id == kRoot) return id;
  MutexLock lock(mutex_);
  Node& node = nodes_[id];
  if (node.place == nullptr) node.place = std::make_shared<Place>(place);
  ++node.look_ups;
  return id;
}

std::shared_ptr<const Place> ControlNodes::add_known(const Place& place) {
  MutexLock lock(mutex_);
  Node& node = nodes_[id_of(place)];
  if (node.place == nullptr) node.place = std::make_shared<Place>(place);
  return node.place;
}

void ControlNodes::forget(NodeId node, std::uint64_t count) noexcept {
  if (node == kRoot) return;
  MutexLock lock(mutex_);
  const auto found = nodes_.find(node);
  if (found == nodes_.end()) return;
  found->second.look_ups -= std::min(count, found->second.look_ups);
  if (found->second.look_ups == 0) nodes_.erase(found);
}

std::shared_ptr<const Place> ControlNodes::find(NodeId node) const {
  if (node == kRoot) return root_;
  MutexLock lock(mutex_);
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? nullptr : found->second.place;
}

std::size_t ControlNodes::size() const {
  MutexLock lock(mutex_);
  return nodes_.size();
}

}  // namespace berth::fuse
