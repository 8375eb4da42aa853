#include "fuse/tables/directory_handles.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace berth::fuse {

void DirectoryHandles::note(NodeId node, sys::FileHandle handle, const std::function<bool(NodeId)>& is_known) {
  {
    MutexLock lock(mutex_);
    handles_.insert_or_assign(node, std::move(handle));
    if (handles_.size() < look_at_) return;
    look_at_ *= 2;  // no other thread looks meanwhile
  }
  forget_unknown(is_known);
}

std::optional<sys::FileHandle> DirectoryHandles::find(NodeId node) const {
  MutexLock lock(mutex_);
  const auto found = handles_.find(node);
  if (found == handles_.end()) return std::nullopt;
  return found->second;
}

void DirectoryHandles::forget_unknown(const std::function<bool(NodeId)>& is_known) {
  std::vector<NodeId> nodes;
  {
    MutexLock lock(mutex_);
    nodes.reserve(handles_.size());
    for (const auto& [node, handle] : handles_) nodes.push_back(node);
  }
  std::erase_if(nodes, is_known);
  MutexLock lock(mutex_);
  for (const NodeId node : nodes) handles_.erase(node);
  look_at_ = std::max(kFirstLook, 2 * handles_.size());
}

}  // namespace berth::fuse
