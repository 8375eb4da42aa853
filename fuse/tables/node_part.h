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
#include "fuse/tables/node_table.h"
#include "fuse/tables/place_store.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

inline constexpr std::uint32_t kNoPlace = 0xffffffff;
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
struct NodeTable::Place {
  NodeId parent;
  std::string_view name;
};

/// A part of the table: nodes by place, and by file. What must be destroyed without the lock is handed out.
///
/// Of each node there are two halves at the same place: the record in the shared memory, and what can be found out again.
class NodeTable::Part {
 public:
  /// What of a node dies with the server. Kept small: there may be millions.
  struct Node {
    SharedFd descriptor;
    std::weak_ptr<const UniqueFd> opened;
    std::uint32_t next = kNoPlace;  ///< in its bucket, or among the free ones; a place in the part
    std::uint32_t children = 0;     ///< nodes whose parent it is
    std::uint32_t open_count = 0;
    std::uint32_t mount_generation = 0;
    std::uint32_t opened_in = 0;
    std::uint32_t clock_place = kNoPlace;  ///< among those with a descriptor
    bool used_lately = false;              ///< its descriptor, since the clock's hand last came by
    bool wanted_lately = false;            ///< the node itself, since cold() last came by
  };
  /// What a freed node leaves.
  struct Remains {
    NodeId parent = 0;
    SharedFd descriptor;
  };

  mutable Mutex mutex;

  Part(NodeArea& area, std::uint32_t number, std::size_t max_descriptors, std::size_t max_places,
       Totals& totals) noexcept
      : area_(area),
        number_(number),
        max_descriptors_(max_descriptors),
        max_places_(max_places),
        totals_(totals),
        names_(area, number) {}

  [[nodiscard]] Node& at(std::uint32_t place) BERTH_REQUIRES(mutex) { return nodes_[place]; }
  [[nodiscard]] NodeRecord& record(std::uint32_t place) const noexcept {
    return area_.nodes[place << NodeArea::kPartBits | number_];
  }
  [[nodiscard]] NodeId id(std::uint32_t place) const noexcept {
    return id_of(place << NodeArea::kPartBits | number_, record(place).generation);
  }
  [[nodiscard]] const PlaceRecord& where(std::uint32_t place) const noexcept {
    return names_.at(record(place).place.load(std::memory_order_relaxed));
  }
  [[nodiscard]] std::string_view name(std::uint32_t place) const noexcept {
    return names_.name(record(place).place.load(std::memory_order_relaxed));
  }
  [[nodiscard]] bool is_at(std::uint32_t place, const Place& other) const noexcept {
    return where(place).parent == other.parent && name(place) == other.name;
  }

  /// The place of an id, kNoPlace when it is stale.
  [[nodiscard]] std::uint32_t find(NodeId node) const BERTH_REQUIRES(mutex) {
    const std::uint32_t place = place_of(node);
    return place < nodes_.size() && in_use(place) && id(place) == node ? place : kNoPlace;
  }

  /// The place of a file's node, or kNoPlace. `fresh` as in remember(): the node of an older file steps aside.
  std::uint32_t find(const RealFile& file, std::uint64_t hashed, mode_t type, bool fresh) BERTH_REQUIRES(mutex) {
    if (buckets_.empty()) return kNoPlace;
    for (std::uint32_t place = bucket(hashed); place != kNoPlace; place = nodes_[place].next) {
      if (!(file_of(place) == file)) continue;
      if (record(place).type == (type & S_IFMT) && !(fresh && nodes_[place].open_count == 0)) {
        nodes_[place].wanted_lately = true;
        return place;
      }
      set_aside(place, hashed);
      return kNoPlace;
    }
    return kNoPlace;
  }

  /// The number is another file's now: the node is not found by it any more.
  void set_aside(std::uint32_t place, std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    unlink(place, hashed);
    record(place).state.store(NodeRecord::kReplaced, std::memory_order_release);
  }

  std::uint32_t add(const RealFile& file, std::uint64_t hashed, mode_t type, const Place& where, std::uint32_t seen_in)
      BERTH_REQUIRES(mutex) {
    if (count_ >= buckets_.size()) grow();
    const std::uint32_t place = take_place();
    std::uint32_t name = 0;
    try {
      name = names_.add(where.parent, where.name);
    } catch (...) {
      nodes_[place].next = std::exchange(free_, place);
      throw;
    }
    NodeRecord& record = this->record(place);
    record.inode = file.inode;
    record.share = file.share;
    record.device = file.device;
    record.generation = record.generation == kMaxGeneration ? 1 : record.generation + 1;
    record.seen_in = seen_in;
    record.place = name;
    record.backing = kNoBacking;
    record.type = static_cast<std::uint16_t>(type & S_IFMT);
    record.lookups = 0;
    record.state.store(NodeRecord::kInUse, std::memory_order_release);
    nodes_[place].next = std::exchange(bucket(hashed), place);
    ++count_;
    totals_.add(file.share);
    return place;
  }

  /// Puts a node somewhere else; answers the parent that it had.
  NodeId move(std::uint32_t place, const Place& where) BERTH_REQUIRES(mutex) {
    const std::uint32_t name = names_.add(where.parent, where.name);
    const std::uint32_t former = record(place).place.exchange(name, std::memory_order_acq_rel);
    const NodeId parent = names_.at(former).parent;
    names_.remove(former);
    return parent;
  }

  /// One look-up more.
  void count(std::uint32_t place) BERTH_REQUIRES(mutex) {
    const std::uint64_t tag = CurrentRequest::note_look_up(id(place));
    record(place).lookups.store(tag | (record(place).count() + 1), std::memory_order_release);
    crash_point("look-up-done");
  }
  /// `count` less.
  void discount(std::uint32_t place, std::uint64_t count) BERTH_REQUIRES(mutex) {
    const std::uint64_t before = record(place).count();
    record(place).lookups.store(CurrentRequest::tag() | (before - std::min(before, count)), std::memory_order_release);
  }

  /// Frees the node if nobody needs it.
  void free_if_unneeded(std::uint32_t place, Remains& remains) BERTH_REQUIRES(mutex) {
    Node& node = nodes_[place];
    NodeRecord& record = this->record(place);
    if (!in_use(place) || record.count() != 0 || node.children != 0 || node.open_count != 0) return;
    if (record.state == NodeRecord::kInUse) unlink(place, hash(file_of(place)));
    record.state.store(NodeRecord::kFree, std::memory_order_release);
    remains = {where(place).parent, take_descriptor(place)};
    names_.remove(record.place.exchange(0));
    node.opened.reset();
    node.next = std::exchange(free_, place);
    --count_;
    totals_.remove(record.share);
  }

  /// What cold() finds from `place` on, before `end`; answers where to go on.
  std::uint32_t find_cold(std::uint32_t place, std::uint32_t end, std::size_t most, std::vector<NodeId>& found)
      BERTH_REQUIRES(mutex) {
    for (; place < end && found.size() < most; ++place) {
      Node& node = nodes_[place];
      if (!in_use(place) || record(place).count() == 0 || node.children != 0 || node.open_count != 0) continue;
      if (!std::exchange(node.wanted_lately, false)) found.push_back(id(place));
    }
    return place;
  }

  BackingId add_handle(std::uint32_t place, std::weak_ptr<const UniqueFd>& opened, std::uint32_t mount_generation)
      BERTH_REQUIRES(mutex) {
    Node& node = nodes_[place];
    ++node.open_count;
    node.opened.swap(opened);
    node.opened_in = mount_generation;
    return record(place).backing;
  }

  /// Answers what had to make room.
  SharedFd keep_descriptor(std::uint32_t place, SharedFd descriptor, std::uint32_t mount_generation)
      BERTH_REQUIRES(mutex) {
    SharedFd former;
    Node& node = nodes_[place];
    if (node.clock_place != kNoPlace) {
      former = std::move(node.descriptor);
    } else {
      if (clock_.size() >= max_descriptors_) former = evict();
      node.clock_place = static_cast<std::uint32_t>(clock_.size());
      clock_.push_back(place);
    }
    node.descriptor = std::move(descriptor);
    node.mount_generation = mount_generation;
    node.used_lately = false;  // until it is used again, so that one long listing cannot drive out all others
    return former;
  }

  SharedFd take_descriptor(std::uint32_t place) BERTH_REQUIRES(mutex) {
    Node& node = nodes_[place];
    if (node.clock_place == kNoPlace) return nullptr;
    const std::uint32_t last = clock_.back();
    clock_[node.clock_place] = last;
    nodes_[last].clock_place = node.clock_place;
    clock_.pop_back();
    node.clock_place = kNoPlace;
    return std::move(node.descriptor);
  }

  /// Takes those of `share`, or of all shares.
  std::vector<SharedFd> take_descriptors(std::optional<ShareIndex> share) BERTH_REQUIRES(mutex) {
    std::vector<SharedFd> taken;
    for (std::size_t i = clock_.size(); i-- > 0;) {
      const std::uint32_t place = clock_[i];
      if (!share || record(place).share == *share) taken.push_back(take_descriptor(place));
    }
    return taken;
  }

  [[nodiscard]] Counts counts() const BERTH_REQUIRES(mutex) { return {count_, clock_.size()}; }
  [[nodiscard]] std::uint32_t places() const BERTH_REQUIRES(mutex) { return static_cast<std::uint32_t>(nodes_.size()); }
  [[nodiscard]] PlaceStore& names() noexcept { return names_; }
  [[nodiscard]] bool in_use(std::uint32_t place) const noexcept { return record(place).state != NodeRecord::kFree; }
  [[nodiscard]] RealFile file_of(std::uint32_t place) const noexcept {
    const NodeRecord& it = record(place);
    return {it.share, it.device, it.inode};
  }
  static constexpr std::uint32_t place_of(NodeId node) noexcept { return index_of(node) >> NodeArea::kPartBits; }

  /// Finds out again what the records of a dead server say, but for what nodes say of each other.
  void recover() BERTH_REQUIRES(mutex) {
    nodes_.resize(std::min<std::size_t>(area_.places[number_], NodeArea::kMaxNodes / kParts));
    for (std::uint32_t place = 0; place < nodes_.size(); ++place) {
      if (in_use(place)) {
        ++count_;
        totals_.add(record(place).share);
      } else {
        record(place).place = 0;
        nodes_[place].next = std::exchange(free_, place);
      }
    }
    grow();
  }

 private:
  std::uint32_t& bucket(std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    return buckets_[(hashed >> NodeArea::kPartBits) & (buckets_.size() - 1)];
  }

  void unlink(std::uint32_t place, std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    std::uint32_t* link = &bucket(hashed);
    while (*link != place) link = &nodes_[*link].next;
    *link = nodes_[place].next;
  }

  std::uint32_t take_place() BERTH_REQUIRES(mutex) {
    if (free_ != kNoPlace) {
      const std::uint32_t place = std::exchange(free_, nodes_[free_].next);
      nodes_[place] = {};
      return place;
    }
    const auto place = static_cast<std::uint32_t>(nodes_.size());
    if (place >= max_places_) throw std::bad_alloc();
    nodes_.emplace_back();
    area_.places[number_].store(place + 1, std::memory_order_release);
    return place;
  }

  /// At least as many buckets as nodes.
  void grow() BERTH_REQUIRES(mutex) {
    buckets_.assign(std::max<std::size_t>(16, std::bit_ceil(2 * (count_ + 1))), kNoPlace);
    for (std::uint32_t place = 0; place < nodes_.size(); ++place) {
      if (record(place).state == NodeRecord::kInUse) {
        nodes_[place].next = std::exchange(bucket(hash(file_of(place))), place);
      }
    }
  }

  /// The clock algorithm: the hand spares once whatever was used since it last came by.
  SharedFd evict() BERTH_REQUIRES(mutex) {
    for (;; ++hand_) {
      if (hand_ >= clock_.size()) hand_ = 0;
      if (!std::exchange(nodes_[clock_[hand_]].used_lately, false)) return take_descriptor(clock_[hand_]);
    }
  }

  NodeArea& area_;
  const std::uint32_t number_;
  const std::size_t max_descriptors_;
  const std::size_t max_places_;
  Totals& totals_;                                              ///< of all parts
  PlaceStore names_;                                            ///< under `mutex`
  std::deque<Node> nodes_ BERTH_GUARDED_BY(mutex);              ///< grows without moving what is there
  std::uint32_t free_ BERTH_GUARDED_BY(mutex) = kNoPlace;       ///< places of nodes not in use, chained
  std::vector<std::uint32_t> buckets_ BERTH_GUARDED_BY(mutex);  ///< first place of each; a power of two
  std::size_t count_ BERTH_GUARDED_BY(mutex) = 0;               ///< nodes in use
  std::vector<std::uint32_t> clock_ BERTH_GUARDED_BY(mutex);    ///< places of those with a descriptor
  std::size_t hand_ BERTH_GUARDED_BY(mutex) = 0;
};

}  // namespace berth::fuse
