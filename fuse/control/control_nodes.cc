#include "fuse/control/control_nodes.h"

#include <algorithm>
#include <utility>

#include "fuse/tables/inode_number.h"

namespace berth::fuse {

NodeId ControlNodes::id_of(const ControlPath& path) {
  if (path.kind == ControlPath::Kind::kRoot) return kRoot;
  // As good as unique: 2^61 numbers for a few thousand paths. Not 0 and not the root's.
  constexpr std::uint64_t kKeys = (std::uint64_t{1} << kOwnerShift) - 1;
  std::uint64_t key = InodeNumbers(to_string(path)).wide_root() & kKeys;
  if (is_control(path.kind)) key = first_of(key);
  return make_node_id(NodeOwner::kControl, std::max<std::uint64_t>(key, 2));
}

NodeId ControlNodes::count(NodeId id, const ControlPath& path) {
  Node& node = nodes_[id];
  if (node.path == nullptr) node.path = std::make_shared<ControlPath>(path);
  ++node.look_ups;
  return id;
}

NodeId ControlNodes::look_up(const ControlPath& path) {
  const NodeId id = id_of(path);
  if (id == kRoot) return id;
  MutexLock lock(mutex_);
  return count(id, path);
}

NodeId ControlNodes::look_up_apart(const ControlPath& path) {
  constexpr int kTries = 64;  // a program may hold as many descriptors of the file as it likes
  const NodeId first = id_of(path);
  MutexLock lock(mutex_);
  NodeId id = first;
  for (int i = 0; i < kTries; ++i) {
    id = first | (next_++ & kApart);
    if (!nodes_.contains(id)) break;
  }
  return count(id, path);
}

std::shared_ptr<const ControlPath> ControlNodes::add_known(NodeId id, const ControlPath& path) {
  MutexLock lock(mutex_);
  Node& node = nodes_[id];
  if (node.path == nullptr) node.path = std::make_shared<ControlPath>(path);
  return node.path;
}

void ControlNodes::forget(NodeId node, std::uint64_t count) noexcept {
  if (node == kRoot) return;
  MutexLock lock(mutex_);
  const auto found = nodes_.find(node);
  if (found == nodes_.end()) return;
  found->second.look_ups -= std::min(count, found->second.look_ups);
  if (found->second.look_ups == 0) nodes_.erase(found);
}

std::shared_ptr<const ControlPath> ControlNodes::find(NodeId node) const {
  if (node == kRoot) return root_;
  MutexLock lock(mutex_);
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? nullptr : found->second.path;
}

std::size_t ControlNodes::size() const {
  MutexLock lock(mutex_);
  return nodes_.size();
}

}  // namespace berth::fuse
