#include "fuse/files/node_finder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <optional>
#include <utility>

#include "src/lib/sys/file.h"

namespace berth::fuse {
namespace {

/// Longest path that is walked in one call; the kernel takes PATH_MAX, and one more name fits.
constexpr std::size_t kLongestWalk = PATH_MAX - NAME_MAX - 2;

/// The descriptor that a node has, if it has one that can be used now.
std::optional<FoundFile> at_hand(const ShareRequest& request, const NodeTable::Node& node) {
  if (node.descriptor != nullptr && node.mount_generation == request.mount_generation) {
    return FoundFile{node.descriptor->get(), node.descriptor};
  }
  // What is open in an earlier mount, which was taken away by force, may be dead.
  if (node.opened != nullptr && node.opened_in == request.mount_generation) {
    return FoundFile{node.opened->get(), node.opened};
  }
  return std::nullopt;
}

/// Whether `x`, found under the node's name, is the node. One of an earlier mount is known by its name alone where
/// inode numbers do not last.
bool is_same(const ShareRequest& request, const struct statx& x, const NodeTable::Node& node) noexcept {
  if ((x.stx_mode & S_IFMT) != node.type) return false;
  if (request.share.file_of(x) == node.file) return true;
  return node.inode_generation != request.inode_generation() && node.open_count == 0;
}

/// Whether the name is known to be another file's. If the inode number is of an earlier mount, it may be another file's
/// now: it proves nothing about the name.
bool lost_its_name(const ShareRequest& request, const NodeTable::Node& node) noexcept {
  return node.replaced && node.inode_generation == request.inode_generation();
}

/// Errors that mean that a name does not lead to the node any more.
bool means_gone(const Error& error) noexcept {
  switch (error.code()) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV:
    case ENXIO:
    case ESTALE:
      return true;
    default:
      return false;
  }
}

Result<OpenedFile> open_again(int fd, int flags) {
  UniqueFd file = TRY(sys::reopen(fd, flags));
  const struct statx x = TRY(sys::stat_at(file.get(), "", STATX_BASIC_STATS));
  return OpenedFile{std::move(file), x};
}

/// Asks as the caller, and once more as the daemon where the caller is refused: for what takes no permission once the
/// file was reached, and the caller's kernel has decided that it was.
template <typename Question>
auto ask(const ShareRequest& request, const Question& question) -> decltype(question()) {
  TRY_VOID(request.assume_caller());
  auto answer = question();
  if (answer || answer.error().code() != EACCES) return answer;
  const sys::AsDaemon as_daemon;
  return question();
}

}  // namespace

Result<FoundFile> NodeFinder::directory(const ShareRequest& request, NodeId id, std::size_t depth) const {
  if (NodeTable::is_root(id)) return FoundFile{request.lease.root(), nullptr};
  const std::optional<NodeTable::Node> node = nodes_.find(id);
  if (!node || depth > NodeTable::kMaxDepth) return fail(ESTALE);
  if (!S_ISDIR(node->type)) return fail(ENOTDIR);
  if (std::optional<FoundFile> reached = at_hand(request, *node)) return *std::move(reached);
  if (lost_its_name(request, *node)) return find_open(request, id);
  Result<FoundFile> found = walk_from_parent(request, id, *node, depth);
  if (!found && means_gone(found.error())) {
    if (Result<FoundFile> moved = find_by_file_handle(request, id, *node)) return moved;
  }
  if (!found && means_gone(found.error()) && node->open_count != 0) return find_open(request, id);
  return found;
}

/// From the nearest directory above that is at hand, all names in one call; only the last is checked, for what lies
/// between does not matter when the right one is found.
Result<FoundFile> NodeFinder::walk_from_parent(const ShareRequest& request, NodeId id, const NodeTable::Node& node,
                                               std::size_t depth) const {
  std::string path = node.name;
  NodeId above = node.parent;
  std::optional<FoundFile> start;
  while (!start) {
    std::optional<NodeTable::Node> parent;
    if (!NodeTable::is_root(above)) {
      parent = nodes_.find(above);
      if (!parent) return fail(ESTALE);
      start = at_hand(request, *parent);
    }
    if (!parent || path.size() > kLongestWalk - NAME_MAX) start = TRY(directory(request, above, depth + 1));
    if (start) break;
    if (++depth > NodeTable::kMaxDepth) return fail(ESTALE);
    path.insert(0, parent->name + "/");
    above = parent->parent;
  }
  const auto open = [&] { return sys::open_beneath(start->fd, path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW); };
  Result<UniqueFd> opened = [&] {
    const sys::AsDaemon as_daemon;
    return open();
  }();
  if (!opened && opened.error().code() == EACCES) {  // root means nothing to some servers
    TRY_VOID(request.assume_caller());
    opened = open();
  }
  if (!opened) return means_gone(opened.error()) ? Result<FoundFile>(fail(ESTALE)) : fail(opened.error());
  const struct statx x = TRY(sys::stat_at(opened->get(), "", STATX_TYPE | STATX_INO));
  if (!is_same(request, x, node)) return fail(ESTALE);
  return cache_directory(request, id, *std::move(opened));
}

FoundFile NodeFinder::cache_directory(const ShareRequest& request, NodeId id, UniqueFd directory) const {
  auto descriptor = std::make_shared<const UniqueFd>(std::move(directory));
  // If the share is being taken away by force, a request that is still inside must not leave anything in the cache.
  if (!request.share.share().gate().closed()) nodes_.keep_descriptor(id, descriptor, request.mount_generation);
  const int fd = descriptor->get();
  return FoundFile{fd, std::move(descriptor)};
}

void NodeFinder::note_directory(const ShareRequest& request, NodeId node, int directory, const char* name) {
  if (!request.share.share().may_be_native()) return;
  // Where there are no handles it is found by its name alone, as in other shares.
  if (Result<sys::FileHandle> handle = sys::handle_of(directory, name)) {
    directories_.note(node, *std::move(handle), [this](NodeId known) { return nodes_.share_of(known).has_value(); });
  }
}

/// The file may be out of the share by now, where programs that are in it natively continue to use it as well.
Result<FoundFile> NodeFinder::find_by_file_handle(const ShareRequest& request, NodeId id,
                                                  const NodeTable::Node& node) const {
  const std::optional<sys::FileHandle> handle = directories_.find(id);
  if (!handle) return fail(ESTALE);
  const sys::AsDaemon as_daemon;
  const UniqueFd root = TRY(sys::reopen(request.lease.root(), O_RDONLY | O_DIRECTORY));
  UniqueFd found = TRY(sys::open_by_handle(root.get(), *handle, O_PATH | O_DIRECTORY));
  const struct statx x = TRY(sys::stat_at(found.get(), "", STATX_TYPE | STATX_INO));
  if (!is_same(request, x, node)) return fail(ESTALE);
  return cache_directory(request, id, std::move(found));
}

/// The last way to a file that has lost its name: through a handle that has it open. In an earlier mount it may be
/// dead.
Result<FoundFile> NodeFinder::find_open(const ShareRequest& request, NodeId node) const {
  for (const std::shared_ptr<Handle>& handle : handles_.find_some(node, request.mount_generation)) {
    if (handle->mount_generation == request.mount_generation ||
        sys::stat_at(handle->fd(), "", STATX_TYPE, AT_STATX_FORCE_SYNC)) {
      return FoundFile{handle->fd(), handle->file};
    }
  }
  return fail(ESTALE);
}

Result<NodeFinder::Location> NodeFinder::locate(const ShareRequest& request, NodeId id) const {
  if (NodeTable::is_root(id)) return Location{{request.lease.root(), nullptr}, {}, {}};
  std::optional<NodeTable::Node> node = nodes_.find(id);
  if (!node) return fail(ESTALE);
  if (std::optional<FoundFile> reached = at_hand(request, *node))
    return Location{*std::move(reached), {}, *std::move(node)};
  if (lost_its_name(request, *node)) return Location{TRY(find_open(request, id)), {}, *std::move(node)};
  if (S_ISDIR(node->type) && directories_.find(id)) {  // it may have another name
    if (Result<FoundFile> itself = directory(request, id)) return Location{*std::move(itself), {}, *std::move(node)};
  }
  Result<FoundFile> parent = directory(request, node->parent);
  if (!parent) {
    if (node->open_count != 0 && means_gone(parent.error()))
      return Location{TRY(find_open(request, id)), {}, *std::move(node)};
    return fail(std::move(parent).error());
  }
  std::string name = std::move(node->name);
  return Location{*std::move(parent), std::move(name), *std::move(node)};
}

Result<struct statx> NodeFinder::stat(const ShareRequest& request, NodeId node) const {
  const Location location = TRY(this->locate(request, node));
  Result<struct statx> x =
      ask(request, [&] { return sys::stat_at(location.at.fd, location.name.c_str(), kAllAttributes); });
  if (location.is_open() || (x && is_same(request, *x, location.node))) return x;
  if (!x && !means_gone(x.error())) return x;
  const FoundFile open = TRY(find_open(request, node));
  return sys::stat_at(open.fd, "", kAllAttributes);
}

Result<UniqueFd> NodeFinder::find_path_by_name(const ShareRequest& request, const Location& location) const {
  UniqueFd fd =
      TRY(ask(request, [&] { return sys::open_beneath(location.at.fd, location.name.c_str(), O_PATH | O_NOFOLLOW); }));
  const struct statx x = TRY(sys::stat_at(fd.get(), "", STATX_TYPE | STATX_INO));
  if (!is_same(request, x, location.node)) return fail(ESTALE);
  return fd;
}

Result<FoundFile> NodeFinder::find_path(const ShareRequest& request, NodeId node) const {
  Location location = TRY(this->locate(request, node));
  if (location.is_open()) return std::move(location.at);
  Result<UniqueFd> fd = find_path_by_name(request, location);
  if (!fd && means_gone(fd.error())) return find_open(request, node);
  if (!fd) return fail(std::move(fd).error());
  const int number = fd->get();
  return FoundFile{number, std::make_shared<const UniqueFd>(*std::move(fd))};
}

/// O_NONBLOCK: the name may lead to a FIFO by now, and the server must not wait for its other end. It means nothing to
/// the regular file or directory that is expected.
Result<OpenedFile> NodeFinder::open_by_name(const ShareRequest& request, const Location& location, int flags) const {
  TRY_VOID(request.assume_caller());
  Result<UniqueFd> fd =
      sys::open_beneath(location.at.fd, location.name.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (!fd && (fd.error().code() == EACCES || fd.error().code() == EAGAIN)) {
    // The directory above may refuse the caller by now, where the file does not. Or a program has a lease on the file
    // (fcntl(2), F_SETLEASE), and opening the file must wait until the lease is given back.
    const UniqueFd pinned = TRY(find_path_by_name(request, location));
    TRY_VOID(request.assume_caller());
    return open_again(pinned.get(), flags);
  }
  if (!fd) return fail(std::move(fd).error());
  const struct statx x = TRY(sys::stat_at(fd->get(), "", STATX_BASIC_STATS));
  if (!is_same(request, x, location.node)) return fail(ESTALE);
  return OpenedFile{*std::move(fd), x};
}

/// The kernel's client of a file server may remember a name that is gone: SMB does after a move that another host made,
/// or that was cut short. Each listing renews what it remembers, by the file's new name, so the caller's kernel would
/// be told for ever that the old name is there. The first call has the client ask for the file, the second one for the
/// name.
void NodeFinder::forget_gone_name(const ShareRequest& request, const Location& location) {
  if (request.share.is_local()) return;
  for (int i = 0; i < 2; ++i) {
    if (sys::stat_at(location.at.fd, location.name.c_str(), STATX_INO, AT_STATX_FORCE_SYNC)) return;
  }
}

Result<OpenedFile> NodeFinder::open(const ShareRequest& request, NodeId node, int flags) const {
  const Location location = TRY(this->locate(request, node));
  if (!location.is_open()) {
    Result<OpenedFile> file = open_by_name(request, location, flags);
    if (!file && file.error().code() == ENOENT) forget_gone_name(request, location);
    // The kernel walks again, and has a node for the number that the file has in this mount. Otherwise a program would
    // see two numbers for one file, and two nodes would have its pages and locks. A caller that has no name for it
    // comes once more.
    const bool is_renumbered = file && !(request.share.file_of(file->x) == location.node.file);
    if (is_renumbered && nodes_.note_renumbered(node)) return fail(ESTALE);
    // What has the name by now may refuse for reasons of its own: a directory that is to be written, a running program.
    if (file || (!means_gone(file.error()) && location.node.open_count == 0)) return file;
  }
  const FoundFile open = location.is_open() ? location.at : TRY(find_open(request, node));
  TRY_VOID(request.assume_caller());
  return open_again(open.fd, flags);
}

Result<std::string> NodeFinder::read_link(const ShareRequest& request, NodeId node) const {
  const Location location = TRY(this->locate(request, node));
  std::array<char, PATH_MAX> target;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by readlinkat
  return ask(request, [&]() -> Result<std::string> {
    const ssize_t size = ::readlinkat(location.at.fd, location.name.c_str(), target.data(), target.size());
    if (size < 0) return errno == EINVAL || errno == ENOENT ? fail(ESTALE) : fail_errno();
    if (!location.is_open()) {
      const struct statx x = TRY(sys::stat_at(location.at.fd, location.name.c_str(), STATX_TYPE | STATX_INO));
      if (!is_same(request, x, location.node)) return fail(ESTALE);
    }
    return std::string(target.data(), static_cast<std::size_t>(size));
  });
}

}  // namespace berth::fuse
