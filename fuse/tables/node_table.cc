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
  if (area != nullptr && area->pages != 0) take_over();
}

NodeTable::~NodeTable() = default;

NodeTable::Part& NodeTable::part_of(const RealFile& file) const noexcept { return *parts_[hash(file) & (kParts - 1)]; }
NodeTable::Part& NodeTable::part_of(NodeId node) const noexcept { return *parts_[index_of(node) & (kParts - 1)]; }

std::optional<ShareIndex> NodeTable::share_of(NodeId node) const {
  if (is_root(node)) return root_id(index_of(node)) == node ? std::optional(index_of(node)) : std::nullopt;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  return slot != kNoSlot ? std::optional(part.record(slot).share) : std::nullopt;
}

std::optional<NodeTable::Node> NodeTable::find(NodeId node) const {
  std::optional<Node> found;
  if (is_root(node)) return found;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  if (slot == kNoSlot) return found;
  Part::Node& it = part.at(slot);
  const NodeRecord& record = part.record(slot);
  it.descriptor_referenced = true;
  it.referenced = true;
  found = Node{
      .file = part.file_of(slot),
      .type = record.type,
      .replaced = record.state == NodeRecord::kReplaced,
      .open_count = it.open_count,
      .parent = part.dentry(slot).parent,
      .name = std::string(part.name(slot)),
      .descriptor = it.descriptor,
      .mount_generation = it.mount_generation,
      .opened = it.open_count != 0 ? it.opened.lock() : nullptr,
      .opened_in = it.opened_in,
      .inode_generation = record.inode_generation,
  };
  return found;
}

NodeId NodeTable::remember(const RealFile& file, mode_t type, NodeId parent, std::string_view name, bool fresh,
                           std::uint32_t inode_generation) {
  const std::uint64_t hashed = hash(file);
  Part& part = part_of(file);
  NodeId known = 0;
  {
    MutexLock lock(part.mutex);
    const std::uint32_t slot = part.find(file, hashed, type, fresh);
    if (slot != kNoSlot) {
      if (part.has_dentry(slot, {parent, name})) {  // as nearly always
        part.count(slot);
        part.record(slot).inode_generation = inode_generation;
        return part.id(slot);
      }
      if (part.record(slot).inode_generation == inode_generation) {
        known = part.id(slot);
      } else {
        part.set_aside(slot, hashed);
      }
    }
  }
  // A directory can come to lie below itself here when directories are moved past berth: then it stays where it was.
  const bool may_move = known == 0 || !S_ISDIR(type) || !is_above(known, parent);
  return put(file, type, {parent, name}, may_move, true, inode_generation);
}

/// Makes or moves the node of `file`; `look_up`: counts one, and makes it where there is none.
NodeId NodeTable::put(const RealFile& file, mode_t type, const Dentry& dentry, bool may_move, bool look_up,
                      std::uint32_t inode_generation) {
  const std::uint64_t hashed = hash(file);
  if (!hold(dentry.parent)) return 0;
  NodeId let_go = dentry.parent;  // unless the node becomes its child
  NodeId node = 0;
  try {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    std::uint32_t slot = part.find(file, hashed, type, false);
    if (slot == kNoSlot && look_up) {
      slot = part.add(file, hashed, type, dentry, inode_generation);
      let_go = 0;
    } else if (slot != kNoSlot) {
      part.record(slot).inode_generation = inode_generation;
      if (may_move) let_go = part.move(slot, dentry);
    }
    if (slot != kNoSlot) {
      if (look_up) part.count(slot);
      node = part.id(slot);
    }
  } catch (...) {  // there is no room for one more
    release(dentry.parent);
    throw;
  }
  release(let_go);
  if (totals_.nodes.load(std::memory_order_relaxed) > limit_.load(std::memory_order_relaxed)) [[unlikely]]
    report_above_limit();
  return node;
}

bool NodeTable::note_renumbered(NodeId node) {
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  return slot != kNoSlot && !std::exchange(part.at(slot).renumbered, true);
}

void NodeTable::move(const RealFile& file, mode_t type, NodeId parent, std::string_view name,
                     std::uint32_t inode_generation) {
  NodeId known = 0;
  {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    const std::uint32_t slot = part.find(file, hash(file), type, false);
    if (slot != kNoSlot && part.record(slot).inode_generation == inode_generation) known = part.id(slot);
  }
  if (known == 0 || (S_ISDIR(type) && is_above(known, parent))) return;
  put(file, type, {parent, name}, true, false, inode_generation);
}

void NodeTable::set_limit_callback(std::function<void()> alarm) { limit_callback_ = std::move(alarm); }

void NodeTable::call_when_above(std::size_t count) noexcept {
  limit_ = count;
  if (totals_.nodes > count) report_above_limit();
}

void NodeTable::report_above_limit() noexcept {
  if (limit_.exchange(kNever) != kNever) limit_callback_();
}

/// A few slots of each part, then the next few: new nodes come to all parts alike, and find the room that was made.
std::vector<NodeId> NodeTable::collect_cold(ClockHand& hand, std::size_t& steps, std::size_t most) {
  std::vector<NodeId> found;
  found.reserve(most);
  while (steps > 0 && found.size() < most) {
    Part& part = *parts_[hand.part];
    {
      MutexLock lock(part.mutex);
      const std::uint32_t begin = std::max(hand.slot, hand.stretch);
      const std::uint32_t end = std::min(hand.stretch + kStretch, part.slots());
      hand.slot = part.find_cold(begin, end, most, found);
      steps -= std::min<std::size_t>(steps, hand.slot - std::min(begin, hand.slot) + 1);
      if (hand.slot < end) break;
    }
    hand.slot = 0;
    if (++hand.part < kParts) continue;
    hand.part = 0;
    hand.stretch += kStretch;
    const auto reaches = [&](const std::atomic<std::uint32_t>& slots) { return slots > hand.stretch; };
    if (std::none_of(std::begin(area_.slots), std::end(area_.slots), reaches)) hand.stretch = 0;
  }
  return found;
}

std::vector<NodeId> NodeTable::unopened_of(ShareIndex share, std::size_t most) const {
  std::vector<NodeId> found;
  for (const std::unique_ptr<Part>& part : parts_) {
    for (std::uint32_t begin = 0, end = 0; begin == 0 || end > begin; begin += kStretch) {
      MutexLock lock(part->mutex);
      end = part->slots();
      for (std::uint32_t slot = begin; slot < std::min(begin + kStretch, end) && found.size() < most; ++slot) {
        if (part->is_unopened_of(slot, share)) found.push_back(part->id(slot));
      }
    }
  }
  return found;
}

std::size_t NodeTable::slots() const noexcept {
  std::size_t sum = 0;
  for (const std::atomic<std::uint32_t>& slots : area_.slots) sum += slots.load(std::memory_order_relaxed);
  return sum;
}

void NodeTable::forget(NodeId node, std::uint64_t count) noexcept {
  if (is_root(node)) return;
  Part::Freed freed_node;
  {
    Part& part = part_of(node);
    MutexLock lock(part.mutex);
    const std::uint32_t slot = part.find(node);
    if (slot == kNoSlot) return;
    part.discount(slot, count);
    part.free_if_unneeded(slot, freed_node);
  }
  release(freed_node.parent);
}

/// Counts one child more of `parent`. False: it is stale.
bool NodeTable::hold(NodeId parent) const {
  if (is_root(parent)) return true;
  Part& part = part_of(parent);
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(parent);
  if (slot != kNoSlot) ++part.at(slot).children;
  return slot != kNoSlot;
}

/// One child less of `parent`, and so on upwards where that was what kept it. 0: nothing to do.
void NodeTable::release(NodeId parent) const noexcept {
  while (parent != 0 && !is_root(parent)) {
    Part::Freed freed_node;
    {
      Part& part = part_of(parent);
      MutexLock lock(part.mutex);
      const std::uint32_t slot = part.find(parent);
      if (slot == kNoSlot) return;
      --part.at(slot).children;
      part.free_if_unneeded(slot, freed_node);
    }
    parent = freed_node.parent;
  }
}

/// Whether `node` is `descendant` or lies above it.
bool NodeTable::is_above(NodeId node, NodeId descendant) const {
  for (std::size_t depth = 0; !is_root(descendant); ++depth) {
    if (descendant == node || depth == kMaxDepth) return true;
    Part& part = part_of(descendant);
    MutexLock lock(part.mutex);
    const std::uint32_t slot = part.find(descendant);
    if (slot == kNoSlot) return false;
    descendant = part.dentry(slot).parent;
  }
  return false;
}

BackingId NodeTable::add_handle(NodeId node, const SharedFd& file, std::uint32_t mount_generation, BackingId backing) {
  if (is_root(node)) return kNoBacking;
  Part& part = part_of(node);
  std::weak_ptr<const UniqueFd> opened = file;
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  if (slot == kNoSlot) return kNoBacking;
  if (part.at(slot).open_count == 0) part.record(slot).backing = backing;
  return part.add_handle(slot, opened, mount_generation);
}

std::optional<BackingId> NodeTable::join_handles(NodeId node, const SharedFd& file, std::uint32_t mount_generation) {
  if (is_root(node)) return std::nullopt;
  Part& part = part_of(node);
  std::weak_ptr<const UniqueFd> opened = file;
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  if (slot == kNoSlot || part.at(slot).open_count == 0) return std::nullopt;
  return part.add_handle(slot, opened, mount_generation);
}

BackingId NodeTable::remove_handle(NodeId node) noexcept {
  if (is_root(node)) return kNoBacking;
  std::weak_ptr<const UniqueFd> opened;
  Part::Freed freed_node;
  BackingId backing = kNoBacking;
  {
    Part& part = part_of(node);
    MutexLock lock(part.mutex);
    const std::uint32_t slot = part.find(node);
    if (slot == kNoSlot || part.at(slot).open_count == 0 || --part.at(slot).open_count != 0) return kNoBacking;
    part.at(slot).opened.swap(opened);
    backing = part.record(slot).backing.exchange(kNoBacking);
    part.free_if_unneeded(slot, freed_node);
  }
  release(freed_node.parent);
  return backing;
}

void NodeTable::keep_descriptor(NodeId node, SharedFd descriptor, std::uint32_t mount_generation) {
  SharedFd former;
  if (is_root(node)) return;
  Part& part = part_of(node);
  MutexLock lock(part.mutex);
  const std::uint32_t slot = part.find(node);
  if (slot == kNoSlot) return;
  former = part.keep_descriptor(slot, std::move(descriptor), mount_generation);
}

void NodeTable::keep_descriptor(const RealFile& file, mode_t type, SharedFd descriptor,
                                std::uint32_t mount_generation) {
  NodeId known = 0;
  {
    Part& part = part_of(file);
    MutexLock lock(part.mutex);
    const std::uint32_t slot = part.find(file, hash(file), type, false);
    if (slot != kNoSlot) known = part.id(slot);
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

std::string NodeTable::path_of(NodeId node, std::size_t longest) const {
  std::string path;
  for (std::size_t depth = 0; !is_root(node); ++depth) {
    const std::optional<Node> found = find(node);
    if (!found || depth == kMaxDepth) return "?";
    if (path.size() + found->name.size() > longest) return path.insert(0, ".../");
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
