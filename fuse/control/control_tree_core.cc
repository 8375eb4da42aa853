#include "fuse/control/control_tree_core.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <utility>

#include "fuse/session/directory_page.h"
#include "fuse/tables/inode_number.h"
#include "src/lib/formats/names.h"

namespace berth::fuse {

namespace {

/// What is said of the size of a file that takes words.
constexpr off_t kMostOfAWord = 4096;

using Kind = Place::Kind;

timespec to_timespec(WallTime time) noexcept {
  const auto since_epoch = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  return {.tv_sec = static_cast<time_t>(seconds.count()),
          .tv_nsec = static_cast<long>(std::chrono::nanoseconds(since_epoch - seconds).count())};
}

/// Stable over restarts, and of no share: the name of none begins with ".berth".
ino_t inode_of(const Place& place) {
  return InodeNumbers(std::string(control::kTree).append("/").append(path_of(place))).root();
}

unsigned char type_of(Kind kind) noexcept { return is_directory(kind) ? DT_DIR : DT_REG; }

/// What `name` in `directory` is, where it is known to be there and of `kind`.
Place place_in(const Place& directory, const PlaceName& name) {
  Place place = directory;
  place.kind = name.kind;
  if (name.kind == Kind::kInstance) place.instance = name.name;
  if (name.kind == Kind::kVolume) place.volume = name.name;
  if (directory.kind == Kind::kNames) place.share.append(directory.share.empty() ? "" : "/").append(name.name);
  return place;
}

}  // namespace

Result<ControlTree::Core::Found> ControlTree::Core::find(NodeId node) {
  Found found{.place = nodes.find(node), .share = nullptr};
  if (found.place == nullptr && setup.servers > 1) found.place = find_again(node);
  if (found.place == nullptr) return fail(ESTALE);
  if (!is_of_share(found.place->kind)) return found;
  found.share = manager.find(found.place->share);
  if (found.share == nullptr) return fail(ESTALE);
  return found;
}

/// Which place a node is that a dead server has given out: of all that there are the one with that number.
std::shared_ptr<const Place> ControlTree::Core::find_again(NodeId node) {
  std::vector<Place> directories{Place{}};
  while (!directories.empty()) {
    const Place directory = std::move(directories.back());
    directories.pop_back();
    const Found found{.place = std::make_shared<Place>(directory),
                      .share = is_of_share(directory.kind) ? manager.find(directory.share) : nullptr};
    if (is_of_share(directory.kind) && found.share == nullptr) continue;
    for (const PlaceName& name : names_in(found)) {
      Place place = place_in(directory, name);
      if (ControlNodes::id_of(place) == node) return nodes.add_known(place);
      if (is_directory(place.kind)) directories.push_back(std::move(place));
    }
  }
  return nullptr;
}

Result<Place> ControlTree::Core::find_child(const Found& parent, const char* name) const {
  if (std::strlen(name) > NAME_MAX) return fail(ENAMETOOLONG);
  if (parent.place->kind == Kind::kAttachments) {
    Place instance = place_in(*parent.place, {.name = name, .kind = Kind::kInstance});
    if (!attachments.has_instance(*parent.share, instance.instance)) return fail(ENOENT);
    return instance;
  }
  if (parent.place->kind == Kind::kInstance) {
    Place volume = place_in(*parent.place, {.name = name, .kind = Kind::kVolume});
    if (!parent.share->has_attachment({.instance = volume.instance, .volume = volume.volume})) return fail(ENOENT);
    return volume;
  }
  std::optional<Place> child = fuse::find_child(*parent.place, name, *manager.directory());
  if (!child) return fail(ENOENT);
  return *std::move(child);
}

mode_t ControlTree::Core::mode_of(Kind kind) const noexcept {
  const bool grouped = setup.group.has_value();
  const mode_t readers = setup.readable_by_everyone ? 0777 : 0770;
  if (is_control(kind)) return S_IFREG | (grouped ? 0660 : 0600);
  if (!is_directory(kind)) return S_IFREG | (0444 & readers);
  if (kind == Kind::kAttachments || kind == Kind::kInstance) return S_IFDIR | ((grouped ? 0775 : 0755) & readers);
  return S_IFDIR | (0555 & readers);
}

struct stat ControlTree::Core::attributes_of(const Place& place) const {
  struct stat attributes {};
  attributes.st_ino = inode_of(place);
  attributes.st_mode = mode_of(place.kind);
  // 1 on a directory: the number of directories in it is not known (as btrfs says it; find(1) understands).
  attributes.st_nlink = 1;
  attributes.st_uid = setup.owner;
  attributes.st_gid = setup.group.value_or(0);
  attributes.st_blksize = 4096;
  WallTime changed = files.started();
  if (place.kind == Kind::kEvents) {
    attributes.st_size = static_cast<off_t>(events.size());
    changed = std::max(changed, events.changed());
  }
  // The kernel lets writes go on side by side within what it takes for the size alone.
  if (is_control(place.kind)) attributes.st_size = kMostOfAWord;
  attributes.st_atim = attributes.st_mtim = attributes.st_ctim = to_timespec(changed);
  return attributes;
}

Entry ControlTree::Core::make_entry(const Place& place) {
  // Never believed for long: everything here changes behind the kernel's back.
  Entry entry;
  entry.attributes = attributes_of(place);
  entry.node = nodes.look_up(place);
  return entry;
}

void ControlTree::Core::answer_entry(Reply reply, const Place& place) {
  const Entry entry = make_entry(place);
  if (!std::move(reply).entry(entry)) nodes.forget(entry.node, 1);
}

bool ControlTree::Core::may_change(const sys::Identity& caller) const {
  if (caller.uid == 0 || caller.uid == setup.owner) return true;
  if (!setup.group) return false;
  if (caller.gid == *setup.group) return true;
  const std::vector<gid_t> groups = sys::groups_of(caller);
  return std::find(groups.begin(), groups.end(), *setup.group) != groups.end();
}

Result<std::uint64_t> ControlTree::Core::open_file(const Found& found, int flags, const sys::Identity& caller) {
  const Kind kind = found.place->kind;
  if (is_directory(kind)) return fail(EISDIR);
  // default_permissions asks nothing of root, who may not write what cannot be written.
  if ((flags & O_ACCMODE) != O_RDONLY && (!is_control(kind) || !may_change(caller))) return fail(EACCES);
  return handles.add(make_handle(found));
}

Result<std::uint64_t> ControlTree::Core::open_directory(const Found& found) {
  if (!is_directory(found.place->kind)) return fail(ENOTDIR);
  return handles.add(make_handle(found));
}

std::shared_ptr<ControlHandle> ControlTree::Core::make_handle(const Found& found) {
  auto handle = std::make_shared<ControlHandle>(found.place);
  const Kind kind = found.place->kind;
  if (is_directory(kind)) {
    handle->content = list(found);
  } else if (kind == Kind::kEvents) {
    handle->content = std::make_unique<EventLog::Reader>(events);
  } else if (!is_control(kind)) {
    handle->content = files.text_of(*found.place, found.share.get());
  }
  return handle;
}

std::shared_ptr<ControlHandle> ControlTree::Core::handle_of(NodeId node, std::uint64_t number) {
  std::shared_ptr<ControlHandle> handle = handles.find(number);
  if (handle != nullptr || number >> 32 == setup.servers) return handle;
  const Result<Found> found = find(node);
  if (!found) return nullptr;
  handle = make_handle(*found);
  return handles.put(number, handle) ? handles.find(number) : nullptr;
}

void ControlTree::Core::list_page(Reply reply, NodeId node, std::uint64_t handle, std::size_t size, off_t offset,
                                  bool plus) {
  const std::shared_ptr<ControlHandle> open = handle_of(node, handle);
  const auto* listing = open == nullptr ? nullptr : std::get_if<ControlHandle::Listing>(&open->content);
  if (listing == nullptr || offset < 0) return std::move(reply).error(EBADF);
  DirectoryPage page(reply, size);
  for (auto at = static_cast<std::size_t>(offset); at < listing->size(); ++at) {
    const ControlHandle::Listed& entry = (*listing)[at];
    const auto next = static_cast<off_t>(at + 1);
    // Names alone: attributes would count look-ups of everything that anybody lists.
    const bool added = plus ? page.add_plain(entry.name.c_str(), entry.inode, entry.type, next)
                            : page.add(entry.name.c_str(), entry.inode, entry.type, next);
    if (!added) break;
  }
  std::move(reply).data(page.bytes());
}

std::vector<PlaceName> ControlTree::Core::names_in(const Found& found) const {
  const Place& place = *found.place;
  std::vector<PlaceName> names;
  if (place.kind == Kind::kAttachments) {
    for (std::string& instance : attachments.instances(*found.share)) {
      names.push_back({.name = std::move(instance), .kind = Kind::kInstance});
    }
  } else if (place.kind == Kind::kInstance) {
    for (std::string& volume : attachments.volumes(*found.share, place.instance)) {
      names.push_back({.name = std::move(volume), .kind = Kind::kVolume});
    }
  } else if (place.kind != Kind::kVolume) {
    names = list_children(place, *manager.directory());
  }
  return names;
}

ControlHandle::Listing ControlTree::Core::list(const Found& found) const {
  const Place& place = *found.place;
  std::vector<PlaceName> names = names_in(found);
  ControlHandle::Listing listing;
  listing.reserve(names.size() + 2);
  const ino_t self = inode_of(place);
  listing.push_back({.name = ".", .inode = self, .type = DT_DIR});
  listing.push_back({.name = "..", .inode = self, .type = DT_DIR});
  for (PlaceName& name : names) {
    const ino_t inode = inode_of(place_in(place, name));
    listing.push_back({.name = std::move(name.name), .inode = inode, .type = type_of(name.kind)});
  }
  return listing;
}

}  // namespace berth::fuse
