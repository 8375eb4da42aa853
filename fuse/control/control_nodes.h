#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "fuse/control/control_path.h"
#include "fuse/session/operations.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// The paths of the control tree that the kernel knows, by node. The table is as large as what the kernel has looked up
/// and not forgotten.
///
/// A path's node is made from its path alone, so that the next server can compute which path a node is that it has not
/// given out itself.
///
/// Threading: any thread may call anything.
class ControlNodes {
 public:
  static constexpr NodeId kRoot = make_node_id(NodeOwner::kControl, 1);
  [[nodiscard]] static NodeId id_of(const ControlPath& path);

  /// The node of a path, with one look-up more; each is owed one forget().
  NodeId look_up(const ControlPath& path);
  void forget(NodeId node, std::uint64_t count) noexcept;
  /// A path that the kernel knows from a dead server; how many look-ups it counts is not known.
  std::shared_ptr<const ControlPath> add_known(const ControlPath& path);
  /// Null when the kernel cannot know such a node. The root is always there and never counted.
  [[nodiscard]] std::shared_ptr<const ControlPath> find(NodeId node) const;
  [[nodiscard]] std::size_t size() const;

 private:
  struct Node {
    std::shared_ptr<const ControlPath> path;
    std::uint64_t look_ups = 0;
  };

  const std::shared_ptr<const ControlPath> root_ = std::make_shared<ControlPath>();
  mutable Mutex mutex_;
  std::unordered_map<NodeId, Node> nodes_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
