#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <deque>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuse/kept/requests.h"
#include "fuse/tables/dentry_store.h"
#include "fuse/tables/node_table.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

inline constexpr std::uint32_t kNoSlot = 0xffffffff;
inline constexpr unsigned kGenerationShift = 32;
inline constexpr std::uint32_t kMaxGeneration = (1U << 28) - 1;

constexpr std::uint32_t index_of(NodeId node) noexcept { return static_cast<std::uint32_t>(node); }
constexpr NodeId id_of(std::uint32_t index, std::uint32_t generation) noexcept {
  return make_node_id(NodeOwner::kShare, std::uint64_t{generation} << kGenerationShift | index);
}

inline std::uint64_t hash(const RealFile& file) noexcept {
  std::uint64_t x = file.inode + 0x9e3779b97f4a7c15 * (file.share + 1) + (std::uint64_t{file.device} << 32);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Where a node is: a name in a parent.
struct NodeTable::Dentry {
  NodeId parent;
  std::string_view name;
};

/// A part of the table: nodes by slot, and by file. What must be destroyed without the lock is handed out.
///
/// A node has two halves in the same slot: the record in the shared memory, and what can be computed again.
class NodeTable::Part {
 public:
  /// The half of a node that ends with the server. Kept small: there may be millions.
  struct Node {
    SharedFd descriptor;
    std::weak_ptr<const UniqueFd> opened;
    std::uint32_t next = kNoSlot;  ///< in its bucket, or among the free ones; a slot in the part
    std::uint32_t children = 0;    ///< nodes whose parent it is
    std::uint32_t open_count = 0;
    std::uint32_t mount_generation = 0;
    std::uint32_t opened_in = 0;
    std::uint32_t clock_slot = kNoSlot;  ///< among those with a descriptor
    bool descriptor_referenced = false;  ///< reference bit of its descriptor, since the clock's hand last passed
    bool referenced = false;             ///< reference bit of the node itself, since collect_cold() last passed
    bool renumbered = false;             ///< as NodeTable::note_renumbered()
  };
  /// What a freed node leaves.
  struct Freed {
    NodeId parent = 0;
    SharedFd descriptor;
  };

  mutable Mutex mutex;

  Part(NodeArea& area, std::uint32_t number, std::size_t max_descriptors, std::size_t max_slots,
       Totals& totals) noexcept
      : area_(area),
        number_(number),
        max_descriptors_(max_descriptors),
        max_slots_(max_slots),
        totals_(totals),
        names_(area, number) {}

  [[nodiscard]] Node& at(std::uint32_t slot) BERTH_REQUIRES(mutex) { return nodes_[slot]; }
  [[nodiscard]] NodeRecord& record(std::uint32_t slot) const noexcept {
    return area_.nodes[slot << NodeArea::kPartBits | number_];
  }
  [[nodiscard]] NodeId id(std::uint32_t slot) const noexcept {
    return id_of(slot << NodeArea::kPartBits | number_, record(slot).generation);
  }
  [[nodiscard]] const DentryRecord& dentry(std::uint32_t slot) const noexcept BERTH_REQUIRES(mutex) {
    return names_.at(record(slot).dentry.load(std::memory_order_relaxed));
  }
  [[nodiscard]] std::string_view name(std::uint32_t slot) const noexcept BERTH_REQUIRES(mutex) {
    return names_.name(record(slot).dentry.load(std::memory_order_relaxed));
  }
  [[nodiscard]] bool has_dentry(std::uint32_t slot, const Dentry& other) const noexcept BERTH_REQUIRES(mutex) {
    return dentry(slot).parent == other.parent && name(slot) == other.name;
  }

  [[nodiscard]] bool is_unopened_of(std::uint32_t slot, ShareIndex share) BERTH_REQUIRES(mutex) {
    return in_use(slot) && record(slot).share == share && at(slot).open_count == 0;
  }

  /// The slot of an id, kNoSlot when it is stale.
  [[nodiscard]] std::uint32_t find(NodeId node) const BERTH_REQUIRES(mutex) {
    const std::uint32_t slot = slot_of(node);
    return slot < nodes_.size() && in_use(slot) && id(slot) == node ? slot : kNoSlot;
  }

  /// The slot of a file's node, or kNoSlot. `fresh` as in remember(): the node of an older file steps aside.
  std::uint32_t find(const RealFile& file, std::uint64_t hashed, mode_t type, bool fresh) BERTH_REQUIRES(mutex) {
    if (buckets_.empty()) return kNoSlot;
    for (std::uint32_t slot = bucket(hashed); slot != kNoSlot; slot = nodes_[slot].next) {
      if (!(file_of(slot) == file)) continue;
      if (record(slot).type == (type & S_IFMT) && !(fresh && nodes_[slot].open_count == 0)) {
        nodes_[slot].referenced = true;
        return slot;
      }
      set_aside(slot, hashed);
      return kNoSlot;
    }
    return kNoSlot;
  }

  /// The number is another file's now: the node cannot be found by it any more.
  void set_aside(std::uint32_t slot, std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    unlink(slot, hashed);
    record(slot).state.store(NodeRecord::kReplaced, std::memory_order_release);
  }

  std::uint32_t add(const RealFile& file, std::uint64_t hashed, mode_t type, const Dentry& dentry,
                    std::uint32_t inode_generation) BERTH_REQUIRES(mutex) {
    if (count_ >= buckets_.size()) grow();
    const std::uint32_t slot = take_slot();
    std::uint32_t name = 0;
    try {
      name = names_.add(dentry.parent, dentry.name);
    } catch (...) {
      nodes_[slot].next = std::exchange(free_, slot);
      throw;
    }
    NodeRecord& record = this->record(slot);
    record.inode = file.inode;
    record.share = file.share;
    record.device = file.device;
    record.generation = record.generation == kMaxGeneration ? 1 : record.generation + 1;
    record.inode_generation = inode_generation;
    record.dentry = name;
    record.backing = kNoBacking;
    record.type = static_cast<std::uint16_t>(type & S_IFMT);
    record.lookups = 0;
    record.state.store(NodeRecord::kInUse, std::memory_order_release);
    nodes_[slot].next = std::exchange(bucket(hashed), slot);
    ++count_;
    totals_.add(file.share);
    return slot;
  }

  /// Gives a node another parent and name; answers the parent that it had.
  NodeId move(std::uint32_t slot, const Dentry& dentry) BERTH_REQUIRES(mutex) {
    const std::uint32_t name = names_.add(dentry.parent, dentry.name);
    const std::uint32_t former = record(slot).dentry.exchange(name, std::memory_order_acq_rel);
    const NodeId parent = names_.at(former).parent;
    names_.remove(former);
    return parent;
  }

  /// Counts one look-up more.
  void count(std::uint32_t slot) BERTH_REQUIRES(mutex) {
    nodes_[slot].renumbered = false;
    const std::uint64_t tag = CurrentRequest::note_look_up(id(slot));
    record(slot).lookups.store(tag | (record(slot).count() + 1), std::memory_order_release);
    crash_point("look-up-done");
  }
  /// Counts `count` look-ups less.
  void discount(std::uint32_t slot, std::uint64_t count) BERTH_REQUIRES(mutex) {
    const std::uint64_t before = record(slot).count();
    record(slot).lookups.store(CurrentRequest::tag() | (before - std::min(before, count)), std::memory_order_release);
  }

  /// Frees the node if it is not needed.
  void free_if_unneeded(std::uint32_t slot, Freed& freed_node) BERTH_REQUIRES(mutex) {
    Node& node = nodes_[slot];
    NodeRecord& record = this->record(slot);
    if (!in_use(slot) || record.count() != 0 || node.children != 0 || node.open_count != 0) return;
    if (record.state == NodeRecord::kInUse) unlink(slot, hash(file_of(slot)));
    record.state.store(NodeRecord::kFree, std::memory_order_release);
    freed_node = {dentry(slot).parent, take_descriptor(slot)};
    names_.remove(record.dentry.exchange(0));
    node.opened.reset();
    node.next = std::exchange(free_, slot);
    --count_;
    totals_.remove(record.share);
  }

  /// What collect_cold() finds from `slot` on, before `end`; answers where to continue.
  std::uint32_t find_cold(std::uint32_t slot, std::uint32_t end, std::size_t most, std::vector<NodeId>& found)
      BERTH_REQUIRES(mutex) {
    for (; slot < end && found.size() < most; ++slot) {
      Node& node = nodes_[slot];
      if (!in_use(slot) || record(slot).count() == 0 || node.children != 0 || node.open_count != 0) continue;
      if (!std::exchange(node.referenced, false)) found.push_back(id(slot));
    }
    return slot;
  }

  BackingId add_handle(std::uint32_t slot, std::weak_ptr<const UniqueFd>& opened, std::uint32_t mount_generation)
      BERTH_REQUIRES(mutex) {
    Node& node = nodes_[slot];
    ++node.open_count;
    node.opened.swap(opened);
    node.opened_in = mount_generation;
    return record(slot).backing;
  }

  /// Answers the descriptor that had to make room.
  SharedFd keep_descriptor(std::uint32_t slot, SharedFd descriptor, std::uint32_t mount_generation)
      BERTH_REQUIRES(mutex) {
    SharedFd former;
    Node& node = nodes_[slot];
    if (node.clock_slot != kNoSlot) {
      former = std::move(node.descriptor);
    } else {
      if (clock_.size() >= max_descriptors_) former = evict();
      node.clock_slot = static_cast<std::uint32_t>(clock_.size());
      clock_.push_back(slot);
    }
    node.descriptor = std::move(descriptor);
    node.mount_generation = mount_generation;
    node.descriptor_referenced = false;  // until it is used again, so that one long listing cannot drive out all others
    return former;
  }

  SharedFd take_descriptor(std::uint32_t slot) BERTH_REQUIRES(mutex) {
    Node& node = nodes_[slot];
    if (node.clock_slot == kNoSlot) return nullptr;
    const std::uint32_t last = clock_.back();
    clock_[node.clock_slot] = last;
    nodes_[last].clock_slot = node.clock_slot;
    clock_.pop_back();
    node.clock_slot = kNoSlot;
    return std::move(node.descriptor);
  }

  /// Takes the descriptors of `share`, or of all shares.
  std::vector<SharedFd> take_descriptors(std::optional<ShareIndex> share) BERTH_REQUIRES(mutex) {
    std::vector<SharedFd> taken;
    for (std::size_t i = clock_.size(); i-- > 0;) {
      const std::uint32_t slot = clock_[i];
      if (!share || record(slot).share == *share) taken.push_back(take_descriptor(slot));
    }
    return taken;
  }

  [[nodiscard]] Counts counts() const BERTH_REQUIRES(mutex) { return {count_, clock_.size()}; }
  [[nodiscard]] std::uint32_t slots() const BERTH_REQUIRES(mutex) { return static_cast<std::uint32_t>(nodes_.size()); }
  [[nodiscard]] DentryStore& names() noexcept BERTH_REQUIRES(mutex) { return names_; }
  [[nodiscard]] bool in_use(std::uint32_t slot) const noexcept { return record(slot).state != NodeRecord::kFree; }
  [[nodiscard]] RealFile file_of(std::uint32_t slot) const noexcept {
    const NodeRecord& it = record(slot);
    return {it.share, it.device, it.inode};
  }
  static constexpr std::uint32_t slot_of(NodeId node) noexcept { return index_of(node) >> NodeArea::kPartBits; }

  /// Computes again what follows from the records of a dead server, except what follows from several nodes.
  void take_over() BERTH_REQUIRES(mutex) {
    nodes_.resize(std::min<std::size_t>(area_.slots[number_], NodeArea::kMaxNodes / kParts));
    for (std::uint32_t slot = 0; slot < nodes_.size(); ++slot) {
      if (in_use(slot)) {
        ++count_;
        totals_.add(record(slot).share);
      } else {
        record(slot).dentry = 0;
        nodes_[slot].next = std::exchange(free_, slot);
      }
    }
    grow();
  }

 private:
  std::uint32_t& bucket(std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    return buckets_[(hashed >> NodeArea::kPartBits) & (buckets_.size() - 1)];
  }

  void unlink(std::uint32_t slot, std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    std::uint32_t* link = &bucket(hashed);
    while (*link != slot) link = &nodes_[*link].next;
    *link = nodes_[slot].next;
  }

  std::uint32_t take_slot() BERTH_REQUIRES(mutex) {
    if (free_ != kNoSlot) {
      const std::uint32_t slot = std::exchange(free_, nodes_[free_].next);
      nodes_[slot] = {};
      return slot;
    }
    const auto slot = static_cast<std::uint32_t>(nodes_.size());
    if (slot >= max_slots_) throw std::bad_alloc();
    nodes_.emplace_back();
    area_.slots[number_].store(slot + 1, std::memory_order_release);
    return slot;
  }

  /// At least as many buckets as nodes.
  void grow() BERTH_REQUIRES(mutex) {
    buckets_.assign(std::max<std::size_t>(16, std::bit_ceil(2 * (count_ + 1))), kNoSlot);
    for (std::uint32_t slot = 0; slot < nodes_.size(); ++slot) {
      if (record(slot).state == NodeRecord::kInUse) {
        nodes_[slot].next = std::exchange(bucket(hash(file_of(slot))), slot);
      }
    }
  }

  /// The clock algorithm: the hand spares once whatever was used since it last passed.
  SharedFd evict() BERTH_REQUIRES(mutex) {
    for (;; ++hand_) {
      if (hand_ >= clock_.size()) hand_ = 0;
      if (!std::exchange(nodes_[clock_[hand_]].descriptor_referenced, false)) return take_descriptor(clock_[hand_]);
    }
  }

  NodeArea& area_;
  const std::uint32_t number_;
  const std::size_t max_descriptors_;
  const std::size_t max_slots_;
  Totals& totals_;  ///< of all parts
  DentryStore names_ BERTH_GUARDED_BY(mutex);
  std::deque<Node> nodes_ BERTH_GUARDED_BY(mutex);              ///< grows without moving what is there
  std::uint32_t free_ BERTH_GUARDED_BY(mutex) = kNoSlot;        ///< slots of nodes not in use, chained
  std::vector<std::uint32_t> buckets_ BERTH_GUARDED_BY(mutex);  ///< first slot of each; a power of two
  std::size_t count_ BERTH_GUARDED_BY(mutex) = 0;               ///< nodes in use
  std::vector<std::uint32_t> clock_ BERTH_GUARDED_BY(mutex);    ///< slots of those with a descriptor
  std::size_t hand_ BERTH_GUARDED_BY(mutex) = 0;
};

}  // namespace berth::fuse
