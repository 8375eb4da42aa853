#include "fuse/node_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <deque>
#include <new>
#include <utility>

#include "fuse/place_store.h"
#include "fuse/requests.h"
#include "src/base/crash_point.h"
#include "src/base/mutex.h"

namespace berth::fuse {
namespace {

constexpr std::uint32_t kNone = 0xffffffff;
constexpr unsigned kGenerationShift = 32;
constexpr std::uint32_t kMaxGeneration = (1U << 28) - 1;

constexpr std::uint32_t index_of(NodeId node) noexcept { return static_cast<std::uint32_t>(node); }
constexpr NodeId id_of(std::uint32_t index, std::uint32_t generation) noexcept {
  return make_node_id(NodeOwner::kShare, std::uint64_t{generation} << kGenerationShift | index);
}

std::uint64_t hash(const RealFile& file) noexcept {
  std::uint64_t x = file.inode + 0x9e3779b97f4a7c15 * (file.share + 1) + (std::uint64_t{file.device} << 32);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

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
    std::uint32_t next = kNone;  ///< in its bucket, or among the free ones; a place in the part
    std::uint32_t children = 0;  ///< nodes whose parent it is
    std::uint32_t open_count = 0;
    std::uint32_t mount_generation = 0;
    std::uint32_t opened_in = 0;
    std::uint32_t clock_place = kNone;  ///< among those with a descriptor
    bool used_lately = false;           ///< its descriptor, since the clock's hand last came by
  };
  /// What a freed node leaves.
  struct Remains {
    NodeId parent = 0;
    SharedFd descriptor;
  };

  mutable Mutex mutex;

  Part(NodeArea& area, std::uint32_t number, std::size_t max_descriptors) noexcept
      : area_(area), number_(number), max_descriptors_(max_descriptors), names_(area, number) {}

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

  /// The place of an id, kNone when it is stale.
  [[nodiscard]] std::uint32_t find(NodeId node) const BERTH_REQUIRES(mutex) {
    const std::uint32_t place = place_of(node);
    return place < nodes_.size() && in_use(place) && id(place) == node ? place : kNone;
  }

  /// The place of a file's node, or kNone. `fresh` as in remember(): the node of an older file steps aside.
  std::uint32_t find(const RealFile& file, std::uint64_t hashed, mode_t type, bool fresh) BERTH_REQUIRES(mutex) {
    if (buckets_.empty()) return kNone;
    for (std::uint32_t place = bucket(hashed); place != kNone; place = nodes_[place].next) {
      if (!(file_of(place) == file)) continue;
      if (record(place).type == (type & S_IFMT) && !(fresh && nodes_[place].open_count == 0)) return place;
      set_aside(place, hashed);
      return kNone;
    }
    return kNone;
  }

  /// The number is another file's now: the node is not found by it any more.
  void set_aside(std::uint32_t place, std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    unlink(place, hashed);
    record(place).state.store(NodeRecord::kReplaced, std::memory_order_release);
  }

  std::uint32_t add(const RealFile& file, std::uint64_t hashed, mode_t type, const Place& where, std::uint32_t seen_in)
      BERTH_REQUIRES(mutex) {
    if (count_ >= buckets_.size()) grow();
    const std::uint32_t name = names_.add(where.parent, where.name);
    const std::uint32_t place = take_place();
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
    if (node.clock_place != kNone) {
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
    if (node.clock_place == kNone) return nullptr;
    const std::uint32_t last = clock_.back();
    clock_[node.clock_place] = last;
    nodes_[last].clock_place = node.clock_place;
    clock_.pop_back();
    node.clock_place = kNone;
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
    if (free_ != kNone) {
      const std::uint32_t place = std::exchange(free_, nodes_[free_].next);
      nodes_[place] = {};
      return place;
    }
    const auto place = static_cast<std::uint32_t>(nodes_.size());
    if (place >= NodeArea::kMaxNodes / kParts) throw std::bad_alloc();
    nodes_.emplace_back();
    area_.places[number_].store(place + 1, std::memory_order_release);
    return place;
  }

  /// At least as many buckets as nodes.
  void grow() BERTH_REQUIRES(mutex) {
    buckets_.assign(std::max<std::size_t>(16, std::bit_ceil(2 * (count_ + 1))), kNone);
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
  PlaceStore names_;                                            ///< under `mutex`
  std::deque<Node> nodes_ BERTH_GUARDED_BY(mutex);              ///< grows without moving what is there
  std::uint32_t free_ BERTH_GUARDED_BY(mutex) = kNone;          ///< places of nodes not in use, chained
  std::vector<std::uint32_t> buckets_ BERTH_GUARDED_BY(mutex);  ///< first place of each; a power of two
  std::size_t count_ BERTH_GUARDED_BY(mutex) = 0;               ///< nodes in use
  std::vector<std::uint32_t> clock_ BERTH_GUARDED_BY(mutex);    ///< places of those with a descriptor
  std::size_t hand_ BERTH_GUARDED_BY(mutex) = 0;
};

namespace {

sys::SharedMemory make_own_memory() {
  Result<sys::SharedMemory> memory = sys::SharedMemory::make("berth-nodes", sizeof(NodeArea));
  if (!memory) throw std::bad_alloc();
  return std::move(*memory);
}

}  // namespace

NodeTable::NodeTable(std::size_t max_descriptors, NodeArea* area)
    : own_(area == nullptr ? std::optional(make_own_memory()) : std::nullopt),
      area_(area == nullptr ? *reinterpret_cast<NodeArea*>(own_->data()) : *area) {
  parts_.reserve(kParts);
  for (std::uint32_t i = 0; i < kParts; ++i) {
    parts_.push_back(std::make_unique<Part>(area_, i, std::max<std::size_t>(1, max_descriptors / kParts)));
  }
  if (area != nullptr && area->pages != 0) recover();
}

NodeTable::~NodeTable() = default;

void NodeTable::recover() {
  std::array<PlaceStore*, kParts> stores{};
  std::vector<bool> names(std::size_t{area_.pages} * (NodeArea::kPageSize / 16));
  for (std::size_t i = 0; i < kParts; ++i) {
    Part& part = *parts_[i];
    MutexLock lock(part.mutex);
    part.recover();
    stores[i] = &part.names();
    for (std::uint32_t place = 0; place < part.places(); ++place) {
      if (part.in_use(place)) names[part.record(place).place] = true;
    }
  }
  PlaceStore::recover(area_, stores, names);
  for (const auto& part : parts_) {
    std::vector<NodeId> parents;
    {
      MutexLock lock(part->mutex);
      for (std::uint32_t place = 0; place < part->places(); ++place) {
        if (part->in_use(place)) parents.push_back(part->where(place).parent);
      }
    }
    for (const NodeId parent : parents) static_cast<void>(hold(parent));
  }
}

bool NodeTable::was_changed_by(NodeId node, std::uint64_t tag) const {
  if (is_root(node)) return true;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  return place == kNone || (part.record(place).lookups & ~NodeRecord::kCountMask) == tag;
}

std::vector<BackingId> NodeTable::free_unneeded() {
  std::vector<BackingId> unused;
  for (const auto& part : parts_) {
    std::vector<NodeId> parents;
    {
      MutexLock lock(part->mutex);
      for (std::uint32_t place = 0; place < part->places(); ++place) {
        if (!part->in_use(place)) continue;
        if (part->at(place).open_count == 0) {
          const BackingId backing = part->record(place).backing.exchange(kNoBacking);
          if (backing != kNoBacking) unused.push_back(backing);
        }
        Part::Remains remains;
        part->free_if_unneeded(place, remains);
        if (remains.parent != 0) parents.push_back(remains.parent);
      }
    }
    for (const NodeId parent : parents) release(parent);
  }
  return unused;
}

std::vector<BackingId> NodeTable::lent() const {
  std::vector<BackingId> ids;
  for (const auto& part : parts_) {
    MutexLock lock(part->mutex);
    for (std::uint32_t place = 0; place < part->places(); ++place) {
      if (part->in_use(place) && part->record(place).backing != kNoBacking) ids.push_back(part->record(place).backing);
    }
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

NodeTable::Part& NodeTable::part_of(const RealFile& file) const noexcept { return *parts_[hash(file) & (kParts - 1)]; }
NodeTable::Part& NodeTable::part_of(NodeId node) const noexcept { return *parts_[index_of(node) & (kParts - 1)]; }

std::optional<ShareIndex> NodeTable::share_of(NodeId node) const {
  if (is_root(node)) return root_id(index_of(node)) == node ? std::optional(index_of(node)) : std::nullopt;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  return place != kNone ? std::optional(part.record(place).share) : std::nullopt;
}

std::optional<NodeTable::Node> NodeTable::find(NodeId node) const {
  std::optional<Node> found;
  if (is_root(node)) return found;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  if (place == kNone) return found;
  Part::Node& it = part.at(place);
  const NodeRecord& record = part.record(place);
  it.used_lately = true;
  found = Node{
      .file = part.file_of(place),
      .type = record.type,
      .replaced = record.state == NodeRecord::kReplaced,
      .open_count = it.open_count,
      .parent = part.where(place).parent,
      .name = std::string(part.name(place)),
      .descriptor = it.descriptor,
      .mount_generation = it.mount_generation,
      .opened = it.open_count != 0 ? it.opened.lock() : nullptr,
      .opened_in = it.opened_in,
      .seen_in = record.seen_in,
  };
  return found;
}

NodeId NodeTable::remember(const RealFile& file, mode_t type, NodeId parent, std::string_view name, bool fresh,
                           std::uint32_t seen_in) {
  const std::uint64_t hashed = hash(file);
  Part& part = part_of(file);
  NodeId known = 0;
  {
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(file, hashed, type, fresh);
    if (place != kNone) {
      if (part.is_at(place, {parent, name})) {  // as nearly always
        part.count(place);
        part.record(place).seen_in = seen_in;
        return part.id(place);
      }
      if (part.record(place).seen_in == seen_in) {
        known = part.id(place);
      } else {
        part.set_aside(place, hashed);
      }
    }
  }
  // A directory can come to lie below itself here when directories are moved beside us: then it stays where it was.
  const bool may_move = known == 0 || !S_ISDIR(type) || !is_above(known, parent);
  return put(file, type, {parent, name}, may_move, true, seen_in);
}

/// Makes or moves the node of `file`; `look_up`: counts one, and makes it where there is none.
NodeId NodeTable::put(const RealFile& file, mode_t type, const Place& where, bool may_move, bool look_up,
                      std::uint32_t seen_in) {
  const std::uint64_t hashed = hash(file);
  if (!hold(where.parent)) return 0;
  NodeId let_go = where.parent;  // unless the node becomes its child
  NodeId node = 0;
  {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    std::uint32_t place = part.find(file, hashed, type, false);
    if (place == kNone && look_up) {
      place = part.add(file, hashed, type, where, seen_in);
      let_go = 0;
    } else if (place != kNone) {
      part.record(place).seen_in = seen_in;
      if (may_move) let_go = part.move(place, where);
    }
    if (place != kNone) {
      if (look_up) part.count(place);
      node = part.id(place);
    }
  }
  release(let_go);
  return node;
}

void NodeTable::move(const RealFile& file, mode_t type, NodeId parent, std::string_view name, std::uint32_t seen_in) {
  NodeId known = 0;
  {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(file, hash(file), type, false);
    if (place != kNone && part.record(place).seen_in == seen_in) known = part.id(place);
  }
  if (known == 0 || (S_ISDIR(type) && is_above(known, parent))) return;
  put(file, type, {parent, name}, true, false, seen_in);
}

void NodeTable::forget(NodeId node, std::uint64_t count) noexcept {
  if (is_root(node)) return;
  Part::Remains remains;
  {
    Part& part = part_of(node);
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(node);
    if (place == kNone) return;
    part.discount(place, count);
    part.free_if_unneeded(place, remains);
  }
  release(remains.parent);
}

/// Counts one child more of `parent`. False: it is stale.
bool NodeTable::hold(NodeId parent) const {
  if (is_root(parent)) return true;
  Part& part = part_of(parent);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(parent);
  if (place != kNone) ++part.at(place).children;
  return place != kNone;
}

/// One child less of `parent`, and so on upwards where that was what kept it. 0: nothing to do.
void NodeTable::release(NodeId parent) const noexcept {
  while (parent != 0 && !is_root(parent)) {
    Part::Remains remains;
    {
      Part& part = part_of(parent);
      MutexLock lock(part.mutex);
      const std::uint32_t place = part.find(parent);
      if (place == kNone) return;
      --part.at(place).children;
      part.free_if_unneeded(place, remains);
    }
    parent = remains.parent;
  }
}

/// Whether `node` is `descendant` or lies above it.
bool NodeTable::is_above(NodeId node, NodeId descendant) const {
  for (std::size_t depth = 0; !is_root(descendant); ++depth) {
    if (descendant == node || depth == kMaxDepth) return true;
    Part& part = part_of(descendant);
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(descendant);
    if (place == kNone) return false;
    descendant = part.where(place).parent;
  }
  return false;
}

BackingId NodeTable::add_handle(NodeId node, const SharedFd& file, std::uint32_t mount_generation, BackingId backing) {
  if (is_root(node)) return kNoBacking;
  Part& part = part_of(node);
  std::weak_ptr<const UniqueFd> opened = file;
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  if (place == kNone) return kNoBacking;
  if (part.at(place).open_count == 0) part.record(place).backing = backing;
  return part.add_handle(place, opened, mount_generation);
}

std::optional<BackingId> NodeTable::join_handles(NodeId node, const SharedFd& file, std::uint32_t mount_generation) {
  if (is_root(node)) return std::nullopt;
  Part& part = part_of(node);
  std::weak_ptr<const UniqueFd> opened = file;
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  if (place == kNone || part.at(place).open_count == 0) return std::nullopt;
  return part.add_handle(place, opened, mount_generation);
}

bool NodeTable::restore_handle(NodeId node, const SharedFd& file, std::uint32_t mount_generation) {
  if (is_root(node)) return true;
  Part& part = part_of(node);
  std::weak_ptr<const UniqueFd> opened = file;
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  if (place == kNone) return false;
  part.add_handle(place, opened, mount_generation);
  return true;
}

BackingId NodeTable::remove_handle(NodeId node) noexcept {
  if (is_root(node)) return kNoBacking;
  std::weak_ptr<const UniqueFd> opened;
  Part::Remains remains;
  BackingId backing = kNoBacking;
  {
    Part& part = part_of(node);
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(node);
    if (place == kNone || part.at(place).open_count == 0 || --part.at(place).open_count != 0) return kNoBacking;
    part.at(place).opened.swap(opened);
    backing = part.record(place).backing.exchange(kNoBacking);
    part.free_if_unneeded(place, remains);
  }
  release(remains.parent);
  return backing;
}

void NodeTable::keep_descriptor(NodeId node, SharedFd descriptor, std::uint32_t mount_generation) {
  SharedFd former;
  if (is_root(node)) return;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  if (place == kNone) return;
  former = part.keep_descriptor(place, std::move(descriptor), mount_generation);
}

void NodeTable::keep_descriptor(const RealFile& file, mode_t type, SharedFd descriptor,
                                std::uint32_t mount_generation) {
  NodeId known = 0;
  {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(file, hash(file), type, false);
    if (place != kNone) known = part.id(place);
  }
  if (known != 0) keep_descriptor(known, std::move(descriptor), mount_generation);
}

void NodeTable::drop_descriptors(ShareIndex share) { drop(share); }
void NodeTable::drop_all_descriptors() { drop(std::nullopt); }

void NodeTable::drop(std::optional<ShareIndex> share) {
  for (std::size_t i = 0; i < kParts; ++i) {
    std::vector<SharedFd> dropped;
    MutexLock lock(parts_[i]->mutex);
    dropped = parts_[i]->take_descriptors(share);
  }
}

std::string NodeTable::path_of(NodeId node) const {
  std::string path;
  for (std::size_t depth = 0; !is_root(node); ++depth) {
    const std::optional<Node> found = find(node);
    if (!found || depth == kMaxDepth) return "?";
    path.insert(0, path.empty() ? found->name : found->name + "/");
    node = found->parent;
  }
  return path;
}

NodeTable::Counts NodeTable::counts() const {
  Counts sum;
  for (std::size_t i = 0; i < kParts; ++i) {
    MutexLock lock(parts_[i]->mutex);
    const Counts counts = parts_[i]->counts();
    sum.nodes += counts.nodes;
    sum.descriptors += counts.descriptors;
  }
  return sum;
}

}  // namespace berth::fuse
