#include "fuse/control_nodes.h"

#include <algorithm>
#include <utility>

namespace berth::fuse {

NodeId ControlNodes::look_up(const Place& place) {
  if (place.kind == Place::Kind::kRoot) return kRoot;
  std::string path = path_of(place);
  MutexLock lock(mutex_);
  const auto [known, is_new] = by_path_.try_emplace(path, 0);
  if (is_new) {
    known->second = make_node_id(NodeOwner::kControl, next_key_++);
    try {
      nodes_.emplace(known->second, Node{.place = std::make_shared<Place>(place), .path = std::move(path)});
    } catch (...) {
      by_path_.erase(known);
      throw;
    }
  }
  ++nodes_.find(known->second)->second.look_ups;
  return known->second;
}

void ControlNodes::forget(NodeId node, std::uint64_t count) noexcept {
  if (node == kRoot) return;
  MutexLock lock(mutex_);
  const auto found = nodes_.find(node);
  if (found == nodes_.end()) return;
  found->second.look_ups -= std::min(count, found->second.look_ups);
  if (found->second.look_ups != 0) return;
  by_path_.erase(found->second.path);
  nodes_.erase(found);
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
