#include "fuse/control/control_tree_core.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <utility>

#include "fuse/session/dirent_buffer.h"
#include "fuse/tables/inode_number.h"
#include "src/lib/formats/names.h"
#include "src/lib/sys/identity.h"

namespace berth::fuse {

namespace {

using Kind = ControlPath::Kind;

timespec to_timespec(WallTime time) noexcept {
  const auto since_epoch = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  return {.tv_sec = static_cast<time_t>(seconds.count()),
          .tv_nsec = static_cast<long>(std::chrono::nanoseconds(since_epoch - seconds).count())};
}

/// Stable over restarts, and of no share: the name of none begins with ".berth".
ino_t inode_of(const ControlPath& path) {
  return InodeNumbers(std::string(formats::kTree).append("/").append(to_string(path))).root();
}

unsigned char type_of(Kind kind) noexcept { return is_directory(kind) ? DT_DIR : DT_REG; }

/// What `name` in `directory` is, where it is known to be there and of `kind`.
ControlPath path_in(const ControlPath& directory, const ControlName& name) {
  ControlPath path = directory;
  path.kind = name.kind;
  if (name.kind == Kind::kInstance) path.instance = name.name;
  if (name.kind == Kind::kVolume) path.volume = name.name;
  if (directory.kind == Kind::kPrefix) path.share.append(directory.share.empty() ? "" : "/").append(name.name);
  return path;
}

}  // namespace

Result<ControlTree::Core::Found> ControlTree::Core::find(NodeId node) {
  Found found{.path = nodes.find(node), .share = nullptr};
  if (found.path == nullptr && setup.servers > 1) {
    found.path = inherited_paths.find(node, manager);
    if (found.path != nullptr) found.path = nodes.add_known(node, *found.path);
  }
  if (found.path == nullptr) return fail(ESTALE);
  if (!is_of_share(found.path->kind)) return found;
  const auto shares = manager.shown();
  const auto share = shares->find(found.path->share);
  if (share == shares->end()) return fail(ESTALE);
  found.share = share->second;
  return found;
}

Result<ControlPath> ControlTree::Core::find_child(const Found& parent, const char* name) const {
  if (std::strlen(name) > NAME_MAX) return fail(ENAMETOOLONG);
  if (parent.path->kind == Kind::kAttachments) {
    ControlPath instance = path_in(*parent.path, {.name = name, .kind = Kind::kInstance});
    if (!parent.share->has_instance(instance.instance)) return fail(ENOENT);
    return instance;
  }
  if (parent.path->kind == Kind::kInstance) {
    ControlPath volume = path_in(*parent.path, {.name = name, .kind = Kind::kVolume});
    if (!parent.share->has_attachment({.instance = volume.instance, .volume = volume.volume})) return fail(ENOENT);
    return volume;
  }
  std::optional<ControlPath> child = fuse::find_child(*parent.path, name, *manager.shown());
  if (!child) return fail(ENOENT);
  return *std::move(child);
}

mode_t ControlTree::Core::mode_of(Kind kind) const noexcept {
  const bool grouped = setup.group.has_value();
  const mode_t readers = setup.readable_by_everyone ? 0777 : 0770;
  if (is_control(kind)) return S_IFREG | (grouped ? 0660 : 0600);
  if (is_private(kind)) return S_IFREG | (grouped ? 0440 : 0400);
  if (!is_directory(kind)) return S_IFREG | (0444 & readers);
  if (kind == Kind::kAttachments || kind == Kind::kInstance) return S_IFDIR | ((grouped ? 0775 : 0755) & readers);
  return S_IFDIR | (0555 & readers);
}

struct stat ControlTree::Core::attributes_of(const ControlPath& path) const {
  struct stat attributes {};
  attributes.st_ino = inode_of(path);
  attributes.st_mode = mode_of(path.kind);
  // 1 on a directory: the number of directories in it is not known (as btrfs answers; find(1) understands).
  attributes.st_nlink = 1;
  attributes.st_uid = setup.owner;
  attributes.st_gid = setup.group.value_or(0);
  attributes.st_blksize = 4096;
  WallTime changed = files.started();
  if (path.kind == Kind::kEvents) {
    attributes.st_size = static_cast<off_t>(events.size());
    changed = std::max(changed, events.changed());
  }
  attributes.st_atim = attributes.st_mtim = attributes.st_ctim = to_timespec(changed);
  return attributes;
}

Entry ControlTree::Core::make_entry(const ControlPath& path, bool apart) {
  // Never cached for long: everything here changes without the kernel's knowledge.
  Entry entry;
  entry.attributes = attributes_of(path);
  entry.node = apart ? nodes.look_up_apart(path) : nodes.look_up(path);
  return entry;
}

void ControlTree::Core::answer_entry(Reply reply, const ControlPath& path) {
  // A caller that cannot write a word cannot be in the way of one, and there may be any number of such callers.
  const Entry entry = make_entry(path, is_control(path.kind) && may_change(reply.caller()));
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
  const Kind kind = found.path->kind;
  if (is_directory(kind)) return fail(EISDIR);
  // default_permissions does not restrict root, but root cannot write what is read-only here.
  if ((flags & O_ACCMODE) != O_RDONLY && (!is_control(kind) || !may_change(caller))) return fail(EACCES);
  const Opener opener = opener_of(caller);
  if (is_private(kind) && !opener.is_trusted) return fail(EACCES);
  return handles.add(opener, expected_size_of(found),
                     [&] { return make_handle(found, {.uid = opener.uid, .sees_all = opener.is_trusted}); });
}

Result<std::uint64_t> ControlTree::Core::open_directory(const Found& found, const sys::Identity& caller) {
  if (!is_directory(found.path->kind)) return fail(ENOTDIR);
  return handles.add(opener_of(caller), expected_size_of(found), [&] { return make_handle(found, {}); });
}

Opener ControlTree::Core::opener_of(const sys::Identity& caller) const {
  return {.uid = caller.uid, .is_trusted = may_change(caller)};
}

/// About how much memory a handle takes while it is made; what is small is not counted.
std::size_t ControlTree::Core::expected_size_of(const Found& found) const {
  constexpr std::size_t kOfShare = 512;
  constexpr std::size_t kOfShareJson = 1536;  // its tree of values is larger than its text
  constexpr std::size_t kOfName = 160;
  switch (found.path->kind) {
    case Kind::kStatus:
      return manager.directory()->size() * kOfShare;
    case Kind::kStatusJson:
      return manager.directory()->size() * kOfShareJson;
    case Kind::kPrefix:
      return manager.directory()->size() * kOfName;
    case Kind::kShareStatus:
    case Kind::kShareStatusJson:
      return found.share->attachment_count() * kOfShareJson;
    case Kind::kShareUsers:
      return ControlFiles::kMostOfUsers;
    case Kind::kShareLog:
      return 2 * LogArea::kSize;
    case Kind::kAttachments:
    case Kind::kInstance:
      return (found.share->attachment_count() + found.share->made_instance_count()) * kOfName;
    case Kind::kRoot:
    case Kind::kVersion:
    case Kind::kEvents:
    case Kind::kMetrics:
    case Kind::kControl:
    case Kind::kReload:
    case Kind::kReloadDryRun:
    case Kind::kSources:
    case Kind::kShare:
    case Kind::kShareState:
    case Kind::kShareError:
    case Kind::kShareControl:
    case Kind::kVolume:
    case Kind::kAttached:
      break;
  }
  return 0;
}

std::shared_ptr<ControlHandle> ControlTree::Core::make_handle(const Found& found, const Viewer& viewer) {
  auto handle = std::make_shared<ControlHandle>(found.path);
  const Kind kind = found.path->kind;
  if (is_directory(kind)) {
    handle->content = list(found);
  } else if (kind == Kind::kEvents) {
    handle->content = std::make_unique<EventLog::Reader>(events);
  } else if (kind == Kind::kShareLog) {
    handle->content = logs.text_of(found.share->name());
  } else if (!is_control(kind)) {
    handle->content = files.text_of(*found.path, found.share.get(), viewer);
  }
  return handle;
}

std::shared_ptr<ControlHandle> ControlTree::Core::handle_of(NodeId node, std::uint64_t number,
                                                            const sys::Identity& caller) {
  std::shared_ptr<ControlHandle> handle = handles.find(number);
  if (handle != nullptr || number >> 32 == setup.servers) return handle;
  const Result<Found> found = find(node);
  if (!found) return nullptr;
  // Of the opener only the trust is known: a program that reads for another user must show that one no more.
  const bool trusted = ControlHandles::is_of_trusted(number);
  const Result<> made = handles.put(number, {.uid = caller.uid, .is_trusted = trusted}, expected_size_of(*found),
                                    [&] { return make_handle(*found, {.uid = {}, .sees_all = trusted}); });
  return made ? handles.find(number) : nullptr;
}

void ControlTree::Core::list_page(Reply reply, NodeId node, std::uint64_t handle, std::size_t size, off_t offset,
                                  bool plus) {
  const std::shared_ptr<ControlHandle> open = handle_of(node, handle, reply.caller());
  const auto* listing = open == nullptr ? nullptr : std::get_if<ControlHandle::Listing>(&open->content);
  if (listing == nullptr || offset < 0) return std::move(reply).error(EBADF);
  DirentBuffer page(reply, size);
  for (auto at = static_cast<std::size_t>(offset); at < listing->size(); ++at) {
    const ControlHandle::Listed& entry = (*listing)[at];
    const auto next = static_cast<off_t>(at + 1);
    // Names alone: attributes would count look-ups of every entry of a listing.
    const bool added = plus ? page.add_plain(entry.name.c_str(), entry.inode, entry.type, next)
                            : page.add(entry.name.c_str(), entry.inode, entry.type, next);
    if (!added) break;
  }
  std::move(reply).data(page.bytes());
}

std::vector<ControlName> ControlTree::Core::names_in(const Found& found) const {
  const ControlPath& path = *found.path;
  std::vector<ControlName> names;
  if (path.kind == Kind::kAttachments) {
    for (std::string& instance : found.share->instances()) {
      names.push_back({.name = std::move(instance), .kind = Kind::kInstance});
    }
  } else if (path.kind == Kind::kInstance) {
    for (manager::Attachment& attachment : found.share->status().attachments) {
      if (attachment.instance != path.instance) continue;
      names.push_back({.name = std::move(attachment.volume), .kind = Kind::kVolume});
    }
  } else {
    names = list_children(path, *manager.shown());
  }
  return names;
}

ControlHandle::Listing ControlTree::Core::list(const Found& found) const {
  const ControlPath& path = *found.path;
  std::vector<ControlName> names = names_in(found);
  ControlHandle::Listing listing;
  listing.reserve(names.size() + 2);
  const ino_t self = inode_of(path);
  listing.push_back({.name = ".", .inode = self, .type = DT_DIR});
  listing.push_back({.name = "..", .inode = self, .type = DT_DIR});
  for (ControlName& name : names) {
    const ino_t inode = inode_of(path_in(path, name));
    listing.push_back({.name = std::move(name.name), .inode = inode, .type = type_of(name.kind)});
  }
  return listing;
}

}  // namespace berth::fuse
