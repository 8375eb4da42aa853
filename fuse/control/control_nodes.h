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
/// given out itself. A control file has many nodes, told apart by their lowest bits: the kernel holds an inode's lock
/// while a write is under way, and what truncates or appends to that inode waits for it. A word may wait for long, and
/// the next word may be what ends that, so each look-up for a word gets a node of its own.
///
/// Threading: any thread may call anything.
class ControlNodes {
 public:
  static constexpr NodeId kRoot = make_node_id(NodeOwner::kControl, 1);
  /// `first`: the lowest bits to begin with, where they tell nodes of one file apart.
  explicit ControlNodes(std::uint64_t first = 0) noexcept : next_(first) {}

  [[nodiscard]] static NodeId id_of(const ControlPath& path);
  /// Of any node of a control file, the one that id_of() names.
  [[nodiscard]] static NodeId first_of(NodeId node) noexcept { return node & ~kApart; }

  /// The node of a path, with one look-up more; each is owed one forget().
  NodeId look_up(const ControlPath& path);
  /// Of a control file: a node that the kernel does not know, as far as there is one.
  NodeId look_up_apart(const ControlPath& path);
  void forget(NodeId node, std::uint64_t count) noexcept;
  /// A path that the kernel knows from a dead server; how many look-ups it counts is not known.
  std::shared_ptr<const ControlPath> add_known(NodeId id, const ControlPath& path);
  /// Null when the kernel cannot know such a node. The root is always there and never counted.
  [[nodiscard]] std::shared_ptr<const ControlPath> find(NodeId node) const;
  [[nodiscard]] std::size_t size() const;

 private:
  static constexpr NodeId kApart = 0xffff;

  struct Node {
    std::shared_ptr<const ControlPath> path;
    std::uint64_t look_ups = 0;
  };

  NodeId count(NodeId id, const ControlPath& path) BERTH_REQUIRES(mutex_);

  const std::shared_ptr<const ControlPath> root_ = std::make_shared<ControlPath>();
  mutable Mutex mutex_;
  std::unordered_map<NodeId, Node> nodes_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t next_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
