#include "fuse/control/inherited_paths.h"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "fuse/control/control_nodes.h"

namespace berth::fuse {
namespace {

using Kind = ControlPath::Kind;

/// A directory of the tree whose entries only the share knows.
bool is_attached(Kind kind) noexcept {
  return kind == Kind::kInstance || kind == Kind::kVolume || kind == Kind::kAttached;
}

}  // namespace

void InheritedPaths::Index::add(const ControlPath& path) {
  paths.push_back(
      {.node = ControlNodes::id_of(path), .at = static_cast<std::uint32_t>(others.size()), .kind = path.kind});
  others.push_back(path);
}

std::shared_ptr<const InheritedPaths::Index> InheritedPaths::make_index(const manager::Manager& manager) {
  auto index = std::make_shared<Index>();
  index->shares = manager.shown();
  for (const ControlName& name : list_children({}, *index->shares)) index->add({.kind = name.kind});
  std::set<std::string_view> above;
  std::uint32_t at = 0;
  for (const auto& [name, share] : *index->shares) {
    for (std::size_t slash = name.find('/'); slash != name.npos; slash = name.find('/', slash + 1)) {
      above.insert(name.substr(0, slash));
    }
    ControlPath path{.kind = Kind::kShare, .share = std::string(name)};
    index->paths.push_back({.node = ControlNodes::id_of(path), .at = at, .kind = path.kind});
    for (const ControlName& child : list_children(path, *index->shares)) {
      path.kind = child.kind;
      index->paths.push_back({.node = ControlNodes::id_of(path), .at = at, .kind = path.kind});
      path.kind = Kind::kShare;
    }
    for (const std::string& instance : share->instances()) {
      index->add({.kind = Kind::kInstance, .share = share->name(), .instance = instance});
    }
    for (const manager::Attachment& attachment : share->status().attachments) {
      ControlPath volume{
          .kind = Kind::kVolume, .share = share->name(), .instance = attachment.instance, .volume = attachment.volume};
      index->add(volume);
      volume.kind = Kind::kAttached;
      index->add(volume);
    }
    ++at;
  }
  for (const std::string_view names : above) index->add({.kind = Kind::kPrefix, .share = std::string(names)});
  std::sort(index->paths.begin(), index->paths.end(),
            [](const Inherited& a, const Inherited& b) { return a.node < b.node; });
  return index;
}

std::shared_ptr<const ControlPath> InheritedPaths::find(NodeId node, const manager::Manager& manager) {
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
  const auto find_inherited = [&index](NodeId of) {
    const auto at = std::lower_bound(index->paths.begin(), index->paths.end(), of,
                                     [](const Inherited& a, NodeId b) { return a.node < b; });
    return at != index->paths.end() && at->node == of ? at : index->paths.end();
  };
  auto inherited = find_inherited(node);
  if (inherited == index->paths.end()) {
    inherited = find_inherited(ControlNodes::first_of(node));
    if (inherited == index->paths.end() || !is_control(inherited->kind)) return nullptr;
  }
  if (is_of_share(inherited->kind) && !is_attached(inherited->kind)) {
    const auto share = index->shares->begin() + static_cast<std::ptrdiff_t>(inherited->at);
    return std::make_shared<ControlPath>(ControlPath{.kind = inherited->kind, .share = std::string(share->first)});
  }
  return std::make_shared<ControlPath>(index->others[inherited->at]);
}

}  // namespace berth::fuse
