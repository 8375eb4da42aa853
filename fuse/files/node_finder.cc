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
std::optional<Reached> at_hand(const Visit& visit, const NodeTable::Node& node) {
  if (node.descriptor != nullptr && node.mount_generation == visit.mount_generation) {
    return Reached{node.descriptor->get(), node.descriptor};
  }
  // What is open in an earlier mount, which was taken away by force, may be dead.
  if (node.opened != nullptr && node.opened_in == visit.mount_generation) {
    return Reached{node.opened->get(), node.opened};
  }
  return std::nullopt;
}

/// Whether `x`, found under the node's name, is the node. One of an earlier mount is known by its name alone where inode
/// numbers do not last.
bool is_same(const Visit& visit, const struct statx& x, const NodeTable::Node& node) noexcept {
  if ((x.stx_mode & S_IFMT) != node.type) return false;
  if (visit.share.file_of(x) == node.file) return true;
  return node.seen_in != visit.numbers_of() && node.open_count == 0;
}

/// Whether the name is known to be another file's. A number that was given out again by the next mount says nothing of
/// the name.
bool lost_its_name(const Visit& visit, const NodeTable::Node& node) noexcept {
  return node.replaced && node.seen_in == visit.numbers_of();
}

/// Errors that say that a name does not lead to the node any more.
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
/// file was reached, as the caller's kernel says it was.
template <typename Question>
auto ask(const Visit& visit, const Question& question) -> decltype(question()) {
  TRY_VOID(visit.act());
  auto answer = question();
  if (answer || answer.error().code() != EACCES) return answer;
  const sys::AsDaemon as_daemon;
  return question();
}

}  // namespace

Result<Reached> NodeFinder::directory(const Visit& visit, NodeId id, std::size_t depth) const {
  if (NodeTable::is_root(id)) return Reached{visit.lease.root(), nullptr};
  const std::optional<NodeTable::Node> node = nodes_.find(id);
  if (!node || depth > NodeTable::kMaxDepth) return fail(ESTALE);
  if (!S_ISDIR(node->type)) return fail(ENOTDIR);
  if (std::optional<Reached> reached = at_hand(visit, *node)) return *std::move(reached);
  if (lost_its_name(visit, *node)) return still_open(visit, id);
  Result<Reached> found = walk(visit, id, *node, depth);
  if (!found && means_gone(found.error())) {
    if (Result<Reached> moved = by_handle(visit, id, *node)) return moved;
  }
  if (!found && means_gone(found.error()) && node->open_count != 0) return still_open(visit, id);
  return found;
}

/// From the nearest directory above that is at hand, all names in one call; only the last is checked, for what lies
/// between does not matter when the right one is found.
Result<Reached> NodeFinder::walk(const Visit& visit, NodeId id, const NodeTable::Node& node, std::size_t depth) const {
  std::string path = node.name;
  NodeId above = node.parent;
  std::optional<Reached> start;
  while (!start) {
    std::optional<NodeTable::Node> parent;
    if (!NodeTable::is_root(above)) {
      parent = nodes_.find(above);
      if (!parent) return fail(ESTALE);
      start = at_hand(visit, *parent);
    }
    if (!parent || path.size() > kLongestWalk - NAME_MAX) start = TRY(directory(visit, above, depth + 1));
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
    TRY_VOID(visit.act());
    opened = open();
  }
  if (!opened) return means_gone(opened.error()) ? Result<Reached>(fail(ESTALE)) : fail(opened.error());
  const struct statx x = TRY(sys::stat_at(opened->get(), "", STATX_TYPE | STATX_INO));
  if (!is_same(visit, x, node)) return fail(ESTALE);
  return keep(visit, id, *std::move(opened));
}

Reached NodeFinder::keep(const Visit& visit, NodeId id, UniqueFd directory) const {
  auto descriptor = std::make_shared<const UniqueFd>(std::move(directory));
  // Who is inside while the share is taken away by force must not leave anything in the cache.
  if (!visit.share.share().gate().closed()) nodes_.keep_descriptor(id, descriptor, visit.mount_generation);
  const int fd = descriptor->get();
  return Reached{fd, std::move(descriptor)};
}

void NodeFinder::note_directory(const Visit& visit, NodeId node, int directory, const char* name) {
  if (!visit.share.share().is_shared_with_native()) return;
  // Where there are no handles it is found by its name alone, as in other shares.
  if (Result<sys::FileHandle> handle = sys::handle_of(directory, name)) {
    directories_.note(node, *std::move(handle), [this](NodeId known) { return nodes_.share_of(known).has_value(); });
  }
}

/// It may be out of the share by now, where who is in it natively goes on as well.
Result<Reached> NodeFinder::by_handle(const Visit& visit, NodeId id, const NodeTable::Node& node) const {
  const std::optional<sys::FileHandle> handle = directories_.find(id);
  if (!handle) return fail(ESTALE);
  const sys::AsDaemon as_daemon;
  const UniqueFd root = TRY(sys::reopen(visit.lease.root(), O_RDONLY | O_DIRECTORY));
  UniqueFd found = TRY(sys::open_by_handle(root.get(), *handle, O_PATH | O_DIRECTORY));
  const struct statx x = TRY(sys::stat_at(found.get(), "", STATX_TYPE | STATX_INO));
  if (!is_same(visit, x, node)) return fail(ESTALE);
  return keep(visit, id, std::move(found));
}

/// The last way to a file that has lost its name: through somebody who has it open. In an earlier mount it may be dead.
Result<Reached> NodeFinder::still_open(const Visit& visit, NodeId node) const {
  const std::shared_ptr<Handle> handle = handles_.find_any(node);
  if (handle == nullptr) return fail(ESTALE);
  if (handle->mount_generation != visit.mount_generation &&
      !sys::stat_at(handle->fd(), "", STATX_TYPE, AT_STATX_FORCE_SYNC)) {
    return fail(ESTALE);
  }
  return Reached{handle->fd(), handle->file};
}

Result<NodeFinder::Place> NodeFinder::place(const Visit& visit, NodeId id) const {
  if (NodeTable::is_root(id)) return Place{{visit.lease.root(), nullptr}, {}, {}};
  std::optional<NodeTable::Node> node = nodes_.find(id);
  if (!node) return fail(ESTALE);
  if (std::optional<Reached> reached = at_hand(visit, *node)) return Place{*std::move(reached), {}, *std::move(node)};
  if (lost_its_name(visit, *node)) return Place{TRY(still_open(visit, id)), {}, *std::move(node)};
  if (S_ISDIR(node->type) && directories_.find(id)) {  // it may have another name
    if (Result<Reached> itself = directory(visit, id)) return Place{*std::move(itself), {}, *std::move(node)};
  }
  Result<Reached> parent = directory(visit, node->parent);
  if (!parent) {
    if (node->open_count != 0 && means_gone(parent.error()))
      return Place{TRY(still_open(visit, id)), {}, *std::move(node)};
    return fail(std::move(parent).error());
  }
  std::string name = std::move(node->name);
  return Place{*std::move(parent), std::move(name), *std::move(node)};
}

Result<struct statx> NodeFinder::stat(const Visit& visit, NodeId node) const {
  const Place place = TRY(this->place(visit, node));
  Result<struct statx> x = ask(visit, [&] { return sys::stat_at(place.at.fd, place.name.c_str(), kAllAttributes); });
  if (place.direct() || (x && is_same(visit, *x, place.node))) return x;
  if (!x && !means_gone(x.error())) return x;
  const Reached open = TRY(still_open(visit, node));
  return sys::stat_at(open.fd, "", kAllAttributes);
}

Result<UniqueFd> NodeFinder::pin_by_name(const Visit& visit, const Place& place) const {
  UniqueFd fd =
      TRY(ask(visit, [&] { return sys::open_beneath(place.at.fd, place.name.c_str(), O_PATH | O_NOFOLLOW); }));
  const struct statx x = TRY(sys::stat_at(fd.get(), "", STATX_TYPE | STATX_INO));
  if (!is_same(visit, x, place.node)) return fail(ESTALE);
  return fd;
}

Result<Reached> NodeFinder::pin(const Visit& visit, NodeId node) const {
  Place place = TRY(this->place(visit, node));
  if (place.direct()) return std::move(place.at);
  Result<UniqueFd> fd = pin_by_name(visit, place);
  if (!fd && means_gone(fd.error())) return still_open(visit, node);
  if (!fd) return fail(std::move(fd).error());
  const int number = fd->get();
  return Reached{number, std::make_shared<const UniqueFd>(*std::move(fd))};
}

/// O_NONBLOCK: the name may lead to a FIFO by now, and nobody may make us wait for its other end. It means nothing to
/// the regular file or directory that is expected.
Result<OpenedFile> NodeFinder::open_by_name(const Visit& visit, const Place& place, int flags) const {
  TRY_VOID(visit.act());
  Result<UniqueFd> fd = sys::open_beneath(place.at.fd, place.name.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (!fd && (fd.error().code() == EACCES || fd.error().code() == EAGAIN)) {
    // The directory above may refuse the caller by now, where the file does not; or somebody has a lease on the file
    // (fcntl(2), F_SETLEASE), and opening it is to wait until that is given back.
    const UniqueFd pinned = TRY(pin_by_name(visit, place));
    TRY_VOID(visit.act());
    return open_again(pinned.get(), flags);
  }
  if (!fd) return fail(std::move(fd).error());
  const struct statx x = TRY(sys::stat_at(fd->get(), "", STATX_BASIC_STATS));
  if (!is_same(visit, x, place.node)) return fail(ESTALE);
  return OpenedFile{*std::move(fd), x};
}

Result<OpenedFile> NodeFinder::open(const Visit& visit, NodeId node, int flags) const {
  const Place place = TRY(this->place(visit, node));
  if (!place.direct()) {
    Result<OpenedFile> file = open_by_name(visit, place, flags);
    // What has the name by now may refuse for reasons of its own: a directory that is to be written, a running program.
    if (file || (!means_gone(file.error()) && place.node.open_count == 0)) return file;
  }
  const Reached open = place.direct() ? place.at : TRY(still_open(visit, node));
  TRY_VOID(visit.act());
  return open_again(open.fd, flags);
}

Result<std::string> NodeFinder::read_link(const Visit& visit, NodeId node) const {
  const Place place = TRY(this->place(visit, node));
  std::array<char, PATH_MAX> target;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by readlinkat
  return ask(visit, [&]() -> Result<std::string> {
    const ssize_t size = ::readlinkat(place.at.fd, place.name.c_str(), target.data(), target.size());
    if (size < 0) return errno == EINVAL || errno == ENOENT ? fail(ESTALE) : fail_errno();
    if (!place.direct()) {
      const struct statx x = TRY(sys::stat_at(place.at.fd, place.name.c_str(), STATX_TYPE | STATX_INO));
      if (!is_same(visit, x, place.node)) return fail(ESTALE);
    }
    return std::string(target.data(), static_cast<std::size_t>(size));
  });
}

}  // namespace berth::fuse
