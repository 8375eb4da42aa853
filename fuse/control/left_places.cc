#include "fuse/control/left_places.h"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "fuse/control/control_nodes.h"

namespace berth::fuse {
namespace {

using Kind = Place::Kind;

/// A directory of the tree whose names are only known from the share.
bool is_attached(Kind kind) noexcept {
  return kind == Kind::kInstance || kind == Kind::kVolume || kind == Kind::kAttached;
}

}  // namespace

void LeftPlaces::Index::add(const Place& place) {
  places.push_back(
      {.node = ControlNodes::id_of(place), .at = static_cast<std::uint32_t>(others.size()), .kind = place.kind});
  others.push_back(place);
}

std::shared_ptr<const LeftPlaces::Index> LeftPlaces::make_index(const manager::Manager& manager) {
  auto index = std::make_shared<Index>();
  index->shares = manager.directory();
  for (const PlaceName& name : list_children({}, *index->shares)) index->add({.kind = name.kind});
  std::set<std::string_view> above;
  std::uint32_t at = 0;
  for (const auto& [name, share] : *index->shares) {
    for (std::size_t slash = name.find('/'); slash != name.npos; slash = name.find('/', slash + 1)) {
      above.insert(name.substr(0, slash));
    }
    Place place{.kind = Kind::kShare, .share = std::string(name)};
    index->places.push_back({.node = ControlNodes::id_of(place), .at = at, .kind = place.kind});
    for (const PlaceName& child : list_children(place, *index->shares)) {
      place.kind = child.kind;
      index->places.push_back({.node = ControlNodes::id_of(place), .at = at, .kind = place.kind});
      place.kind = Kind::kShare;
    }
    for (const std::string& instance : share->instances()) {
      index->add({.kind = Kind::kInstance, .share = share->name(), .instance = instance});
    }
    for (const manager::Attachment& attachment : share->status().attachments) {
      Place volume{
          .kind = Kind::kVolume, .share = share->name(), .instance = attachment.instance, .volume = attachment.volume};
      index->add(volume);
      volume.kind = Kind::kAttached;
      index->add(volume);
    }
    ++at;
  }
  for (const std::string_view names : above) index->add({.kind = Kind::kNames, .share = std::string(names)});
  std::sort(index->places.begin(), index->places.end(), [](const Left& a, const Left& b) { return a.node < b.node; });
  return index;
}

std::shared_ptr<const Place> LeftPlaces::find(NodeId node, const manager::Manager& manager) {
  std::shared_ptr<const Index> index;
  {
    MutexLock lock(mutex_);
    index = index_;
  }
  if (index == nullptr) {
    // Not under the lock: it looks at every share. Several threads may do it once.
    index = make_index(manager);
    MutexLock lock(mutex_);
    if (index_ == nullptr) index_ = index;
  }
  const auto left = std::lower_bound(index->places.begin(), index->places.end(), node,
                                     [](const Left& a, NodeId b) { return a.node < b; });
  if (left == index->places.end() || left->node != node) return nullptr;
  if (is_of_share(left->kind) && !is_attached(left->kind)) {
    const auto share = index->shares->begin() + static_cast<std::ptrdiff_t>(left->at);
    return std::make_shared<Place>(Place{.kind = left->kind, .share = std::string(share->first)});
  }
  return std::make_shared<Place>(index->others[left->at]);
}

}  // namespace berth::fuse
