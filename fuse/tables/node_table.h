#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuse/kept/kept_state.h"
#include "fuse/session/operations.h"
#include "fuse/session/passthrough.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/shared_memory.h"

namespace berth::fuse {

/// A descriptor that is closed when its last user is done.
using SharedFd = std::shared_ptr<const UniqueFd>;

/// Which of the shares that the kernel knows: a slot of KnownShares, and in the bits above it how often the slot was
/// used before. So the index of a share that is gone is not that of another one.
using ShareIndex = std::uint32_t;
constexpr std::uint32_t slot_of(ShareIndex share) noexcept { return share % ShareSlots::kMost; }

/// What makes a file the same file, over unmounts too.
struct RealFile {
  ShareIndex share = 0;
  std::uint32_t device = 0;  ///< 0: the device of the share's root, whose number may change with each mount
  std::uint64_t inode = 0;

  friend bool operator==(const RealFile&, const RealFile&) = default;
};

/// The files below the roots of shares that the kernel knows, and where each was last seen.
///
/// - A node is a record, not an open file: it holds no mount. It is found again by its name in its parent, and the
///   finder checks that it is still the same real file. Hard links are one node, which keeps the name that last worked.
/// - Some file systems number their files afresh with each mount. So the number alone proves nothing for a file that
///   was last seen in an earlier mount: seen under another name, it is another file with a node of its own.
/// - A node lives while the kernel counts look-ups of it, or it has handles, or another node has it as parent. So the
///   kernel decides how many there are; collect_cold() names those that it may be asked to drop.
///
/// - A node may also have a descriptor, which is a cache: a bounded number of them is kept, the ones not used for
///   longest go first (the clock algorithm), and any may go at any time.
///
/// Node ids are keys into this table with a generation, so that a stale or invented one is refused. The root of a share
/// has an id (root_id()), which never goes stale, but no record here.
///
/// The records are in memory that outlives the server (NodeArea): a table made over what a dead server has left knows
/// the nodes that the kernel knows, under the same ids.
///
/// Threading: any thread may call anything. The table is split by file, each part under a lock of its own; no call
/// holds two, and descriptors are closed after the lock is let go.
class NodeTable {
 public:
  /// `max_descriptors`: kept at the same time, rounded up to one a part. `area`: outlives the table; null: memory of
  /// its own. `end`: most nodes that there is room for, where the caller wants less than the memory has. Errors: throws
  /// std::bad_alloc, as do all functions that would make a node for which there is no room.
  explicit NodeTable(std::size_t max_descriptors, NodeArea* area = nullptr, std::size_t end = NodeArea::kMaxNodes);
  NodeTable(const NodeTable&) = delete;
  NodeTable& operator=(const NodeTable&) = delete;
  ~NodeTable();

  [[nodiscard]] static constexpr NodeId root_id(ShareIndex share) noexcept {
    return make_node_id(NodeOwner::kShare, kRootFlag | share);
  }
  [[nodiscard]] static constexpr bool is_root(NodeId node) noexcept { return (node & kRootFlag) != 0; }
  /// The share of a node. Absent: the id is stale, or was never given out.
  [[nodiscard]] std::optional<ShareIndex> share_of(NodeId node) const;

  /// A node as it was when it was looked at.
  struct Node {
    RealFile file;
    mode_t type = 0;               ///< S_IFMT part of the mode
    bool replaced = false;         ///< its inode number belongs to a newer file: only what is open still reaches it
    std::uint32_t open_count = 0;  ///< handles
    NodeId parent = 0;
    std::string name;                    ///< in `parent`
    SharedFd descriptor;                 ///< cached; null: none
    std::uint32_t mount_generation = 0;  ///< of the mount that `descriptor` is in
    SharedFd opened;                     ///< of the handle that opened it last, if that is still open
    std::uint32_t opened_in = 0;         ///< generation of the mount that `opened` is in
    std::uint32_t inode_generation = 0;  ///< as in remember(), when it was last seen
  };
  /// Not for roots.
  [[nodiscard]] std::optional<Node> find(NodeId node) const;

  /// One look-up more of `file`, seen as `name` in `parent`; makes its node when there is none. `fresh`: the file was
  /// made just now, so an old node of the same number and without handles is of a file that is gone.
  /// `inode_generation`: the generation of the mount that its number is of; 0 where numbers last.
  /// 0: `parent` is stale.
  NodeId remember(const RealFile& file, mode_t type, NodeId parent, std::string_view name, bool fresh = false,
                  std::uint32_t inode_generation = 0);
  /// The name of the node leads to a file of another number now. True: that was not noted since the node was last
  /// looked up.
  [[nodiscard]] bool note_renumbered(NodeId node);
  /// Whether the kernel has got it by no more than one look-up, which may be under way.
  [[nodiscard]] bool is_new(NodeId node) const;
  /// `count` look-ups less.
  void forget(NodeId node, std::uint64_t count) noexcept;
  /// berth has moved `file` to `name` in `parent`. Nothing happens when it has no node that was seen in that mount.
  void move(const RealFile& file, mode_t type, NodeId parent, std::string_view name,
            std::uint32_t inode_generation = 0);

  /// A handle of `node` was opened. `file` may serve other requests on the node while it is open, as long as they are
  /// in the same mount. Answers how the kernel is to read and write all handles of the node: the first one decides it
  /// with `backing`, and an id that was not used is the caller's still.
  BackingId add_handle(NodeId node, const SharedFd& file, std::uint32_t mount_generation = 0,
                       BackingId backing = kNoBacking);
  /// The same where `node` has handles already; nothing is done, and nothing answered, when it has none.
  std::optional<BackingId> join_handles(NodeId node, const SharedFd& file, std::uint32_t mount_generation);
  /// Answers the id that has served the handles of the node, when this was the last of them.
  BackingId remove_handle(NodeId node) noexcept;

  /// Caches a descriptor of `node`, opened in the share's mount of that generation.
  void keep_descriptor(NodeId node, SharedFd descriptor, std::uint32_t mount_generation);
  /// The same for the node of `file`, if it has one.
  void keep_descriptor(const RealFile& file, mode_t type, SharedFd descriptor, std::uint32_t mount_generation);
  /// Closes the cached descriptors in `share`, but for those in use, which are closed when they are not used any more.
  void drop_descriptors(ShareIndex share);
  /// The same of all shares: when the process runs out of descriptors.
  void drop_all_descriptors();

  // After a dead server, before there is another thread.

  /// Whether the last change of the look-ups of `node` has this tag (Requests::WasApplied), or the node is gone.
  [[nodiscard]] bool was_applied_to(NodeId node, std::uint64_t tag) const;
  /// A handle of the dead server is open still. False: its node is not known, which cannot be.
  bool take_over_handle(NodeId node, const SharedFd& file, std::uint32_t mount_generation);
  /// Frees the nodes that are not needed, after all handles have been taken over: what the dead server had just begun.
  /// Answers the backing files that were registered for handles that are not there.
  std::vector<BackingId> free_unneeded();
  /// Ids of the registered backing files, in order.
  [[nodiscard]] std::vector<BackingId> registered_backings() const;

  /// The path of `node` below its share's root, as far as is known: "a/b"; "" for a root; "?" when it is not known. Of
  /// one that is longer than `longest` bytes the end, after ".../".
  [[nodiscard]] std::string path_of(NodeId node, std::size_t longest = 4096) const;

  struct Counts {
    std::size_t nodes = 0;
    std::size_t descriptors = 0;  ///< cached
  };
  [[nodiscard]] Counts counts() const;
  /// The number of nodes alone, without a lock.
  [[nodiscard]] std::size_t size() const noexcept { return totals_.nodes.load(std::memory_order_relaxed); }
  /// Those of one share, of which the root is none; without a lock.
  [[nodiscard]] std::size_t size(ShareIndex share) const noexcept {
    return totals_.in_share[slot_of(share)].load(std::memory_order_relaxed);
  }

  // For NodePruner, which keeps the number of nodes down: one thread.

  /// Where collect_cold() continues.
  struct ClockHand {
    std::uint32_t stretch = 0;  ///< of slots, in all parts
    std::uint32_t part = 0, slot = 0;
  };
  /// At most `most` nodes that the kernel knows, that nothing here depends on, and whose reference bit is clear: the
  /// hand clears the bit when it passes. Takes what it has looked at from `steps`; a turn is about slots() of them.
  [[nodiscard]] std::vector<NodeId> collect_cold(ClockHand& hand, std::size_t& steps, std::size_t most);
  [[nodiscard]] std::size_t slots() const noexcept;
  /// At most `most` nodes of one share that have no handle, from all parts.
  [[nodiscard]] std::vector<NodeId> unopened_of(ShareIndex share, std::size_t most) const;
  /// How many nodes have been freed so far.
  [[nodiscard]] std::size_t freed() const noexcept { return totals_.freed.load(std::memory_order_relaxed); }
  /// What call_when_above() calls: on any thread, without a lock, and it must not throw. Before the first request.
  void set_limit_callback(std::function<void()> alarm);
  /// Calls the alarm once, when there are more nodes than this or as soon as there are.
  void call_when_above(std::size_t count) noexcept;

  /// Deepest chain of directories that is followed: PATH_MAX / 2. Directories that are moved past berth can leave a
  /// loop here, which must not be followed for ever.
  static constexpr std::size_t kMaxDepth = 2048;

 private:
  static constexpr std::size_t kParts = NodeArea::kParts;
  static constexpr NodeId kRootFlag = NodeId{1} << 60;

  struct Dentry;
  class Part;

  /// What is counted of all parts together.
  struct Totals {
    using Counts = std::unique_ptr<std::atomic<std::uint32_t>[], void (*)(void*)>;

    std::atomic<std::size_t> nodes{0};
    std::atomic<std::size_t> freed{0};
    /// Memory that nothing was ever counted in is none.
    const Counts in_share{static_cast<std::atomic<std::uint32_t>*>(std::calloc(ShareSlots::kMost, 4)), &std::free};

    void add(ShareIndex share) noexcept {
      ++nodes;
      ++in_share[slot_of(share)];
    }
    void remove(ShareIndex share) noexcept {
      --nodes;
      ++freed;
      --in_share[slot_of(share)];
    }
  };

  [[nodiscard]] Part& part_of(const RealFile& file) const noexcept;
  [[nodiscard]] Part& part_of(NodeId node) const noexcept;
  NodeId put(const RealFile& file, mode_t type, const Dentry& dentry, bool may_move, bool look_up,
             std::uint32_t inode_generation);
  void drop(std::optional<ShareIndex> share);
  [[nodiscard]] bool hold(NodeId parent) const;
  void release(NodeId parent) const noexcept;
  [[nodiscard]] bool is_above(NodeId node, NodeId descendant) const;

  void take_over();
  void report_above_limit() noexcept;

  static constexpr std::size_t kNever = ~std::size_t{0};
  static constexpr std::uint32_t kStretch = 64;  ///< slots that are looked at under one lock

  const std::optional<sys::SharedMemory> own_;  ///< where the caller of the constructor gave none
  NodeArea& area_;
  Totals totals_;
  std::atomic<std::size_t> limit_{kNever};
  std::function<void()> limit_callback_;  ///< set before there is another thread
  std::vector<std::unique_ptr<Part>> parts_;
};

}  // namespace berth::fuse
