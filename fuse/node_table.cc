#include "fuse/node_table.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

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

std::unique_ptr<char[]> copy_name(std::string_view name) {
  auto copy = std::make_unique<char[]>(name.size() + 1);
  std::memcpy(copy.get(), name.data(), name.size());
  return copy;
}

}  // namespace

/// Where a node is: a name in a parent.
struct NodeTable::Place {
  NodeId parent;
  std::string_view name;
};

/// One node. Kept small: there may be millions.
struct NodeTable::Record {
  RealFile file;
  NodeId parent = 0;
  std::unique_ptr<char[]> name;
  std::uint64_t lookups = 0;
  SharedFd descriptor;
  std::weak_ptr<const UniqueFd> opened;
  std::uint32_t generation = 1;
  std::uint32_t next = kNone;  ///< in its bucket, or among the free ones; a place in the part
  std::uint32_t children = 0;  ///< nodes whose parent it is
  std::uint32_t open_count = 0;
  std::uint32_t mount_generation = 0;
  std::uint32_t opened_in = 0;
  std::uint32_t seen_in = 0;
  std::uint32_t clock_place = kNone;  ///< among those with a descriptor
  BackingId backing = kNoBacking;     ///< of all handles, while there are any
  std::uint16_t type = 0;
  bool in_use = false;
  bool replaced = false;     ///< not found by its file any more
  bool used_lately = false;  ///< its descriptor, since the clock's hand last came by

  [[nodiscard]] bool is_at(const Place& place) const noexcept {
    return parent == place.parent && place.name == name.get();
  }
};

/// A part of the table: records by place, and by file. What must be destroyed without the lock is handed out.
class NodeTable::Part {
 public:
  /// What a freed record leaves.
  struct Remains {
    NodeId parent = 0;
    std::unique_ptr<char[]> name;
    SharedFd descriptor;
  };

  mutable Mutex mutex;

  void set_up(std::uint32_t number, std::size_t max_descriptors) BERTH_REQUIRES(mutex) {
    number_ = number;
    max_descriptors_ = max_descriptors;
  }

  Record& at(std::uint32_t place) BERTH_REQUIRES(mutex) { return records_[place]; }
  [[nodiscard]] NodeId id(std::uint32_t place) const BERTH_REQUIRES(mutex) {
    return id_of(place << kPartBits | number_, records_[place].generation);
  }

  /// The record of an id, null when it is stale.
  Record* find(NodeId node) BERTH_REQUIRES(mutex) {
    const std::uint32_t place = place_of(node);
    return place < records_.size() && records_[place].in_use && id(place) == node ? &records_[place] : nullptr;
  }

  /// The place of a file's record, or kNone. `fresh` as in remember(): the record of an older file steps aside.
  std::uint32_t find(const RealFile& file, std::uint64_t hashed, mode_t type, bool fresh) BERTH_REQUIRES(mutex) {
    if (buckets_.empty()) return kNone;
    for (std::uint32_t place = bucket(hashed); place != kNone; place = records_[place].next) {
      Record& record = records_[place];
      if (!(record.file == file)) continue;
      if (record.type == (type & S_IFMT) && !(fresh && record.open_count == 0)) return place;
      set_aside(place, hashed);
      return kNone;
    }
    return kNone;
  }

  /// The number is another file's now: the record is not found by it any more.
  void set_aside(std::uint32_t place, std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    unlink(place, hashed);
    records_[place].replaced = true;
  }

  std::uint32_t add(const RealFile& file, std::uint64_t hashed, mode_t type) BERTH_REQUIRES(mutex) {
    if (count_ >= buckets_.size()) grow();
    const std::uint32_t place = take_place();
    Record& record = records_[place];
    record.file = file;
    record.type = static_cast<std::uint16_t>(type & S_IFMT);
    record.in_use = true;
    record.replaced = false;
    record.next = std::exchange(bucket(hashed), place);
    ++count_;
    return place;
  }

  /// Frees the record if nobody needs it.
  void free_if_unneeded(std::uint32_t place, Remains& remains) BERTH_REQUIRES(mutex) {
    Record& record = records_[place];
    if (record.lookups != 0 || record.children != 0 || record.open_count != 0) return;
    if (!record.replaced) unlink(place, hash(record.file));
    remains = {std::exchange(record.parent, 0), std::move(record.name), take_descriptor(place)};
    record.opened.reset();
    record.in_use = false;
    record.generation = record.generation == kMaxGeneration ? 1 : record.generation + 1;
    record.next = std::exchange(free_, place);
    --count_;
  }

  /// Answers what had to make room.
  SharedFd keep_descriptor(std::uint32_t place, SharedFd descriptor, std::uint32_t mount_generation)
      BERTH_REQUIRES(mutex) {
    SharedFd former;
    if (records_[place].clock_place != kNone) {
      former = std::move(records_[place].descriptor);
    } else {
      if (clock_.size() >= max_descriptors_) former = evict();
      records_[place].clock_place = static_cast<std::uint32_t>(clock_.size());
      clock_.push_back(place);
    }
    records_[place].descriptor = std::move(descriptor);
    records_[place].mount_generation = mount_generation;
    records_[place].used_lately =
        false;  // until it is used again, so that one long listing cannot drive out all others
    return former;
  }

  SharedFd take_descriptor(std::uint32_t place) BERTH_REQUIRES(mutex) {
    Record& record = records_[place];
    if (record.clock_place == kNone) return nullptr;
    const std::uint32_t last = clock_.back();
    clock_[record.clock_place] = last;
    records_[last].clock_place = record.clock_place;
    clock_.pop_back();
    record.clock_place = kNone;
    return std::move(record.descriptor);
  }

  /// Takes those of `share`, or of all shares.
  std::vector<SharedFd> take_descriptors(std::optional<ShareIndex> share) BERTH_REQUIRES(mutex) {
    std::vector<SharedFd> taken;
    for (std::size_t i = clock_.size(); i-- > 0;) {
      const std::uint32_t place = clock_[i];
      if (!share || records_[place].file.share == *share) taken.push_back(take_descriptor(place));
    }
    return taken;
  }

  [[nodiscard]] Counts counts() const BERTH_REQUIRES(mutex) { return {count_, clock_.size()}; }

  static constexpr std::uint32_t place_of(NodeId node) noexcept { return index_of(node) >> kPartBits; }

 private:
  std::uint32_t& bucket(std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    return buckets_[(hashed >> kPartBits) & (buckets_.size() - 1)];
  }

  void unlink(std::uint32_t place, std::uint64_t hashed) BERTH_REQUIRES(mutex) {
    std::uint32_t* link = &bucket(hashed);
    while (*link != place) link = &records_[*link].next;
    *link = records_[place].next;
  }

  std::uint32_t take_place() BERTH_REQUIRES(mutex) {
    if (free_ != kNone) return std::exchange(free_, records_[free_].next);
    records_.emplace_back();
    return static_cast<std::uint32_t>(records_.size() - 1);
  }

  void grow() BERTH_REQUIRES(mutex) {
    buckets_.assign(std::max<std::size_t>(16, buckets_.size() * 2), kNone);
    for (std::uint32_t place = 0; place < records_.size(); ++place) {
      Record& record = records_[place];
      if (record.in_use && !record.replaced) record.next = std::exchange(bucket(hash(record.file)), place);
    }
  }

  /// The clock algorithm: the hand spares once whatever was used since it last came by.
  SharedFd evict() BERTH_REQUIRES(mutex) {
    for (;; ++hand_) {
      if (hand_ >= clock_.size()) hand_ = 0;
      Record& record = records_[clock_[hand_]];
      if (!std::exchange(record.used_lately, false)) return take_descriptor(clock_[hand_]);
    }
  }

  std::uint32_t number_ BERTH_GUARDED_BY(mutex) = 0;
  std::size_t max_descriptors_ BERTH_GUARDED_BY(mutex) = 1;
  std::deque<Record> records_ BERTH_GUARDED_BY(mutex);          ///< grows without moving what is there
  std::uint32_t free_ BERTH_GUARDED_BY(mutex) = kNone;          ///< places of records not in use, chained
  std::vector<std::uint32_t> buckets_ BERTH_GUARDED_BY(mutex);  ///< first place of each; a power of two
  std::size_t count_ BERTH_GUARDED_BY(mutex) = 0;               ///< records in use
  std::vector<std::uint32_t> clock_ BERTH_GUARDED_BY(mutex);    ///< places of those with a descriptor
  std::size_t hand_ BERTH_GUARDED_BY(mutex) = 0;
};

NodeTable::NodeTable(std::size_t max_descriptors) : parts_(std::make_unique<Part[]>(kParts)) {
  for (std::uint32_t i = 0; i < kParts; ++i) {
    MutexLock lock(parts_[i].mutex);
    parts_[i].set_up(i, std::max<std::size_t>(1, max_descriptors / kParts));
  }
}

NodeTable::~NodeTable() = default;

NodeTable::Part& NodeTable::part_of(const RealFile& file) const noexcept { return parts_[hash(file) & (kParts - 1)]; }
NodeTable::Part& NodeTable::part_of(NodeId node) const noexcept { return parts_[index_of(node) & (kParts - 1)]; }

std::optional<ShareIndex> NodeTable::share_of(NodeId node) const {
  if (is_root(node)) return root_id(index_of(node)) == node ? std::optional(index_of(node)) : std::nullopt;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const Record* record = part.find(node);
  return record != nullptr ? std::optional(record->file.share) : std::nullopt;
}

std::optional<NodeTable::Node> NodeTable::find(NodeId node) const {
  std::optional<Node> found;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  Record* record = is_root(node) ? nullptr : part.find(node);
  if (record == nullptr) return found;
  record->used_lately = true;
  found = Node{
      .file = record->file,
      .type = record->type,
      .replaced = record->replaced,
      .open_count = record->open_count,
      .parent = record->parent,
      .name = record->name.get(),
      .descriptor = record->descriptor,
      .mount_generation = record->mount_generation,
      .opened = record->open_count != 0 ? record->opened.lock() : nullptr,
      .opened_in = record->opened_in,
      .seen_in = record->seen_in,
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
      Record& record = part.at(place);
      if (record.is_at({parent, name})) {  // as nearly always
        ++record.lookups;
        record.seen_in = seen_in;
        return part.id(place);
      }
      if (record.seen_in == seen_in) {
        known = part.id(place);
      } else {
        part.set_aside(place, hashed);
      }
    }
  }
  // A directory can come to lie below itself here when directories are moved beside us: then it stays where it was.
  const bool may_move = known == 0 || !S_ISDIR(type) || !is_above(known, parent);
  return put(file, type, {parent, name}, may_move, 1, seen_in);
}

NodeId NodeTable::put(const RealFile& file, mode_t type, const Place& where, bool may_move, std::uint64_t lookups,
                      std::uint32_t seen_in) {
  const std::uint64_t hashed = hash(file);
  auto name = copy_name(where.name);
  if (!hold(where.parent)) return 0;
  NodeId let_go = where.parent;  // unless the node becomes its child
  NodeId node = 0;
  Part& part = part_of(file);
  {
    MutexLock lock(part.mutex);
    std::uint32_t place = part.find(file, hashed, type, false);
    const bool is_new = place == kNone && lookups != 0;
    if (is_new) place = part.add(file, hashed, type);
    if (place != kNone) {
      Record& record = part.at(place);
      record.lookups += lookups;
      record.seen_in = seen_in;
      node = part.id(place);
      if (is_new || may_move) {
        let_go = std::exchange(record.parent, where.parent);
        std::swap(record.name, name);
      }
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
    if (place != kNone && part.at(place).seen_in == seen_in) known = part.id(place);
  }
  if (known == 0 || (S_ISDIR(type) && is_above(known, parent))) return;
  put(file, type, {parent, name}, true, 0, seen_in);
}

void NodeTable::forget(NodeId node, std::uint64_t count) noexcept {
  if (is_root(node)) return;
  Part::Remains remains;
  {
    Part& part = part_of(node);
    MutexLock lock(part.mutex);
    Record* record = part.find(node);
    if (record == nullptr) return;
    record->lookups -= std::min(record->lookups, count);
    part.free_if_unneeded(Part::place_of(node), remains);
  }
  release(remains.parent);
}

/// Counts one child more of `parent`. False: it is stale.
bool NodeTable::hold(NodeId parent) const {
  if (is_root(parent)) return true;
  Part& part = part_of(parent);
  MutexLock lock(part.mutex);
  Record* record = part.find(parent);
  if (record != nullptr) ++record->children;
  return record != nullptr;
}

/// One child less of `parent`, and so on upwards where that was what kept it. 0: nothing to do.
void NodeTable::release(NodeId parent) const noexcept {
  while (parent != 0 && !is_root(parent)) {
    Part::Remains remains;
    {
      Part& part = part_of(parent);
      MutexLock lock(part.mutex);
      Record* record = part.find(parent);
      if (record == nullptr) return;
      --record->children;
      part.free_if_unneeded(Part::place_of(parent), remains);
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
    const Record* record = part.find(descendant);
    if (record == nullptr) return false;
    descendant = record->parent;
  }
  return false;
}

BackingId NodeTable::add_handle(NodeId node, const SharedFd& file, std::uint32_t mount_generation, BackingId backing) {
  if (is_root(node)) return kNoBacking;
  std::weak_ptr<const UniqueFd> opened = file;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  Record* record = part.find(node);
  if (record == nullptr) return kNoBacking;
  if (record->open_count++ == 0) record->backing = backing;
  record->opened.swap(opened);
  record->opened_in = mount_generation;
  return record->backing;
}

std::optional<BackingId> NodeTable::join_handles(NodeId node, const SharedFd& file, std::uint32_t mount_generation) {
  if (is_root(node)) return std::nullopt;
  std::weak_ptr<const UniqueFd> opened = file;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  Record* record = part.find(node);
  if (record == nullptr || record->open_count == 0) return std::nullopt;
  ++record->open_count;
  record->opened.swap(opened);
  record->opened_in = mount_generation;
  return record->backing;
}

BackingId NodeTable::remove_handle(NodeId node) noexcept {
  if (is_root(node)) return kNoBacking;
  std::weak_ptr<const UniqueFd> opened;
  Part::Remains remains;
  BackingId backing = kNoBacking;
  {
    Part& part = part_of(node);
    MutexLock lock(part.mutex);
    Record* record = part.find(node);
    if (record == nullptr || record->open_count == 0 || --record->open_count != 0) return kNoBacking;
    record->opened.swap(opened);
    backing = std::exchange(record->backing, kNoBacking);
    part.free_if_unneeded(Part::place_of(node), remains);
  }
  release(remains.parent);
  return backing;
}

void NodeTable::keep_descriptor(NodeId node, SharedFd descriptor, std::uint32_t mount_generation) {
  SharedFd former;
  if (is_root(node)) return;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  if (part.find(node) == nullptr) return;
  former = part.keep_descriptor(Part::place_of(node), std::move(descriptor), mount_generation);
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
    MutexLock lock(parts_[i].mutex);
    dropped = parts_[i].take_descriptors(share);
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
    MutexLock lock(parts_[i].mutex);
    const Counts counts = parts_[i].counts();
    sum.nodes += counts.nodes;
    sum.descriptors += counts.descriptors;
  }
  return sum;
}

}  // namespace berth::fuse
