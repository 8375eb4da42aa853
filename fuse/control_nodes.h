#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "fuse/control_place.h"
#include "fuse/operations.h"
#include "src/base/mutex.h"

namespace berth::fuse {

/// The places of the control tree that the kernel knows, by node. A place is one node as long as it is known; the table
/// is as large as what the kernel has looked up and not forgotten.
///
/// Threading: any thread may call anything.
class ControlNodes {
 public:
  static constexpr NodeId kRoot = make_node_id(NodeOwner::kControl, 1);

  /// The node of a place, with one look-up more; each is owed one forget().
  NodeId look_up(const Place& place);
  void forget(NodeId node, std::uint64_t count) noexcept;
  /// Null when the kernel cannot know such a node. The root is always there and never counted.
  [[nodiscard]] std::shared_ptr<const Place> find(NodeId node) const;
  [[nodiscard]] std::size_t size() const;

 private:
  struct Node {
    std::shared_ptr<const Place> place;
    std::string path;
    std::uint64_t look_ups = 0;
  };

  const std::shared_ptr<const Place> root_ = std::make_shared<Place>();
  mutable Mutex mutex_;
  std::unordered_map<NodeId, Node> nodes_ BERTH_GUARDED_BY(mutex_);
  std::unordered_map<std::string, NodeId> by_path_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t next_key_ BERTH_GUARDED_BY(mutex_) = 2;
};

}  // namespace berth::fuse
