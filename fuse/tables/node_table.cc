#include "fuse/tables/node_table.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "fuse/tables/node_part.h"

namespace berth::fuse {

namespace {

sys::SharedMemory make_own_memory() {
  Result<sys::SharedMemory> memory = sys::SharedMemory::make("berth-nodes", sizeof(NodeArea));
  if (!memory) throw std::bad_alloc();
  return std::move(*memory);
}

}  // namespace

NodeTable::NodeTable(std::size_t max_descriptors, NodeArea* area, std::size_t end)
    : own_(area == nullptr ? std::optional(make_own_memory()) : std::nullopt),
      area_(area == nullptr ? *reinterpret_cast<NodeArea*>(own_->data()) : *area) {
  parts_.reserve(kParts);
  for (std::uint32_t i = 0; i < kParts; ++i) {
    parts_.push_back(std::make_unique<Part>(area_, i, std::max<std::size_t>(1, max_descriptors / kParts),
                                            std::min(end, NodeArea::kMaxNodes) / kParts, totals_));
  }
  if (area != nullptr && area->pages != 0) recover();
}

NodeTable::~NodeTable() = default;

NodeTable::Part& NodeTable::part_of(const RealFile& file) const noexcept { return *parts_[hash(file) & (kParts - 1)]; }
NodeTable::Part& NodeTable::part_of(NodeId node) const noexcept { return *parts_[index_of(node) & (kParts - 1)]; }

std::optional<ShareIndex> NodeTable::share_of(NodeId node) const {
  if (is_root(node)) return root_id(index_of(node)) == node ? std::optional(index_of(node)) : std::nullopt;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  return place != kNoPlace ? std::optional(part.record(place).share) : std::nullopt;
}

std::optional<NodeTable::Node> NodeTable::find(NodeId node) const {
  std::optional<Node> found;
  if (is_root(node)) return found;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  if (place == kNoPlace) return found;
  Part::Node& it = part.at(place);
  const NodeRecord& record = part.record(place);
  it.used_lately = true;
  it.wanted_lately = true;
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
    if (place != kNoPlace) {
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
  try {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    std::uint32_t place = part.find(file, hashed, type, false);
    if (place == kNoPlace && look_up) {
      place = part.add(file, hashed, type, where, seen_in);
      let_go = 0;
    } else if (place != kNoPlace) {
      part.record(place).seen_in = seen_in;
      if (may_move) let_go = part.move(place, where);
    }
    if (place != kNoPlace) {
      if (look_up) part.count(place);
      node = part.id(place);
    }
  } catch (...) {  // there is no room for one more
    release(where.parent);
    throw;
  }
  release(let_go);
  if (totals_.nodes.load(std::memory_order_relaxed) > call_above_.load(std::memory_order_relaxed)) [[unlikely]]
    say_above();
  return node;
}

void NodeTable::move(const RealFile& file, mode_t type, NodeId parent, std::string_view name, std::uint32_t seen_in) {
  NodeId known = 0;
  {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(file, hash(file), type, false);
    if (place != kNoPlace && part.record(place).seen_in == seen_in) known = part.id(place);
  }
  if (known == 0 || (S_ISDIR(type) && is_above(known, parent))) return;
  put(file, type, {parent, name}, true, false, seen_in);
}

void NodeTable::set_alarm(std::function<void()> alarm) { alarm_ = std::move(alarm); }

void NodeTable::call_above(std::size_t count) noexcept {
  call_above_ = count;
  if (totals_.nodes > count) say_above();
}

void NodeTable::say_above() noexcept {
  if (call_above_.exchange(kNever) != kNever) alarm_();
}

/// A few places of each part, then the next few: new nodes come to all parts alike, and find the room that was made.
std::vector<NodeId> NodeTable::cold(Hand& hand, std::size_t& steps, std::size_t most) {
  std::vector<NodeId> found;
  found.reserve(most);
  while (steps > 0 && found.size() < most) {
    Part& part = *parts_[hand.part];
    {
      MutexLock lock(part.mutex);
      const std::uint32_t begin = std::max(hand.place, hand.stretch);
      const std::uint32_t end = std::min(hand.stretch + kStretch, part.places());
      hand.place = part.find_cold(begin, end, most, found);
      steps -= std::min<std::size_t>(steps, hand.place - std::min(begin, hand.place) + 1);
      if (hand.place < end) break;
    }
    hand.place = 0;
    if (++hand.part < kParts) continue;
    hand.part = 0;
    hand.stretch += kStretch;
    const auto reaches = [&](const std::atomic<std::uint32_t>& places) { return places > hand.stretch; };
    if (std::none_of(std::begin(area_.places), std::end(area_.places), reaches)) hand.stretch = 0;
  }
  return found;
}

std::size_t NodeTable::places() const noexcept {
  std::size_t sum = 0;
  for (const std::atomic<std::uint32_t>& places : area_.places) sum += places.load(std::memory_order_relaxed);
  return sum;
}

void NodeTable::forget(NodeId node, std::uint64_t count) noexcept {
  if (is_root(node)) return;
  Part::Remains remains;
  {
    Part& part = part_of(node);
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(node);
    if (place == kNoPlace) return;
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
  if (place != kNoPlace) ++part.at(place).children;
  return place != kNoPlace;
}

/// One child less of `parent`, and so on upwards where that was what kept it. 0: nothing to do.
void NodeTable::release(NodeId parent) const noexcept {
  while (parent != 0 && !is_root(parent)) {
    Part::Remains remains;
    {
      Part& part = part_of(parent);
      MutexLock lock(part.mutex);
      const std::uint32_t place = part.find(parent);
      if (place == kNoPlace) return;
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
    if (place == kNoPlace) return false;
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
  if (place == kNoPlace) return kNoBacking;
  if (part.at(place).open_count == 0) part.record(place).backing = backing;
  return part.add_handle(place, opened, mount_generation);
}

std::optional<BackingId> NodeTable::join_handles(NodeId node, const SharedFd& file, std::uint32_t mount_generation) {
  if (is_root(node)) return std::nullopt;
  Part& part = part_of(node);
  std::weak_ptr<const UniqueFd> opened = file;
  MutexLock lock(part.mutex);
  const std::uint32_t place = part.find(node);
  if (place == kNoPlace || part.at(place).open_count == 0) return std::nullopt;
  return part.add_handle(place, opened, mount_generation);
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
    if (place == kNoPlace || part.at(place).open_count == 0 || --part.at(place).open_count != 0) return kNoBacking;
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
  if (place == kNoPlace) return;
  former = part.keep_descriptor(place, std::move(descriptor), mount_generation);
}

void NodeTable::keep_descriptor(const RealFile& file, mode_t type, SharedFd descriptor,
                                std::uint32_t mount_generation) {
  NodeId known = 0;
  {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    const std::uint32_t place = part.find(file, hash(file), type, false);
    if (place != kNoPlace) known = part.id(place);
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
