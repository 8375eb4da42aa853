#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "fuse/real_tree.h"
#include "src/sys/file.h"

namespace berth::fuse {
namespace {

/// What of a caller's flags the real file is opened with; the rest the caller's kernel sees to, or it is done afterwards.
constexpr int kKeptFlags = O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC | O_NOATIME;

/// The kernel's own mark of a file that is opened to be executed (FMODE_EXEC, linux/fs.h); open(2) lets nobody give it.
constexpr int kOpenedToExecute = 0x20;

Result<> truncate(int fd, int flags) {
  // There is an access mode 3, too: neither reading nor writing (open(2)).
  const bool writes = (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
  if (!writes) {
    // Not truncate(2): that leaves an empty file alone, times and set-id bits included, on xfs and tmpfs.
    TRY(sys::reopen(fd, (flags & O_ACCMODE) | O_TRUNC));
    return {};
  }
  if (::ftruncate(fd, 0) != 0) return fail_errno();
  return {};
}

/// O_DIRECT where the file system takes it. It is a hint to us: what the caller reads past the caches of its own kernel
/// is asked of us each time, whatever we do below. The flags that are in effect.
int with_direct_io(int fd, int flags) noexcept {
  if ((flags & O_DIRECT) != 0 && ::fcntl(fd, F_SETFL, (flags & kKeptFlags) | O_DIRECT) == 0) return flags;
  return flags & ~O_DIRECT;
}

}  // namespace

std::uint64_t RealTree::keep(const Visit& visit, NodeId node, UniqueFd file, int flags, bool directory) {
  auto handle = std::make_shared<Handle>();
  handle->lease = visit.lease.again();
  handle->file = std::make_shared<const UniqueFd>(std::move(file));
  handle->node = node;
  handle->mount_generation = visit.mount_generation;
  handle->share = visit.share.index();
  handle->flags = flags;
  handle->pid = visit.caller.pid;
  handle->uid = visit.caller.uid;
  handle->directory = directory;
  if (const auto known = directory ? nodes_.find(node) : std::nullopt) handle->device = known->file.device;
  nodes_.add_handle(node, handle->file, visit.mount_generation);
  return handles_.add(std::move(handle));
}

bool RealTree::close(std::uint64_t number, NodeId node) {
  const std::shared_ptr<Handle> handle = handles_.remove(number, node);
  if (handle == nullptr) return false;
  nodes_.remove_handle(node);
  return true;
}

Result<std::uint64_t> RealTree::open(const Visit& visit, NodeId node, int flags) {
  Result<UniqueFd> file = finder_.open(visit, node, flags & kKeptFlags);
  if (!file && file.error().code() == EACCES && (flags & kOpenedToExecute) != 0) file = open_to_execute(visit, node);
  if (!file) return fail(std::move(file).error());
  // Only now that it is known to be the right file.
  if ((flags & O_TRUNC) != 0) TRY_VOID(truncate(file->get(), flags));
  flags = with_direct_io(file->get(), flags);
  return keep(visit, node, *std::move(file), flags, false);
}

/// A program may be run by who may execute but not read it; its kernel then reads it on its own account, and so do we.
Result<UniqueFd> RealTree::open_to_execute(const Visit& visit, NodeId node) {
  TRY_VOID(access(visit, node, X_OK));
  const Reached program = TRY(finder_.pin(visit, node));
  const sys::AsDaemon as_daemon;
  return sys::reopen(program.fd, O_RDONLY);
}

Result<std::uint64_t> RealTree::open_directory(const Visit& visit, NodeId node, int flags) {
  UniqueFd directory = TRY(finder_.open(visit, node, O_RDONLY | O_DIRECTORY | (flags & O_NOATIME)));
  return keep(visit, node, std::move(directory), O_RDONLY, true);
}

Result<RealTree::Created> RealTree::create(const Visit& visit, NodeId parent, const char* name, mode_t mode,
                                           int flags) {
  if (!is_name(name)) return fail(EINVAL);
  const Reached directory = TRY(finder_.directory(visit, parent));
  bool fresh = true;
  UniqueFd file = TRY(create_file(visit, directory.fd, name, mode, flags, fresh));
  struct statx x = TRY(sys::stat_at(file.get(), "", STATX_BASIC_STATS));
  // The name was another kind of file all the time: the caller's kernel is to look again and treat it as such.
  if (!S_ISREG(x.stx_mode)) return fail(ESTALE);
  if (!fresh && (flags & O_TRUNC) != 0) {
    TRY_VOID(truncate(file.get(), flags));
    x = TRY(sys::stat_at(file.get(), "", STATX_BASIC_STATS));
  }
  flags = with_direct_io(file.get(), flags);
  const Entry entry = TRY(remember(visit, parent, name, x, fresh));
  const std::uint64_t handle = keep(visit, entry.node, std::move(file), flags, false);
  return Created{entry, handle};
}

/// `fresh` answers whether it was made here. One call at a time the name is taken or free; the kernel asks only when it
/// believes that it is free, so that is tried first.
Result<UniqueFd> RealTree::create_file(const Visit& visit, int directory, const char* name, mode_t mode, int flags,
                                       bool& fresh) {
  const int common = (flags & kKeptFlags) | O_CREAT | O_NOFOLLOW | O_NOCTTY;
  TRY_VOID(visit.act());
  Result<UniqueFd> file = sys::open_beneath(directory, name, common | O_EXCL, mode);
  fresh = file.has_value();
  if (file || file.error().code() != EEXIST || (flags & O_EXCL) != 0) return file;
  // With O_CREAT still, so that the rules for sticky directories hold (proc_sys_fs(5), protected_regular).
  file = sys::open_beneath(directory, name, common | O_NONBLOCK, mode);
  // A symbolic link: the caller's kernel is to look again, and to follow it.
  if (!file && (file.error().code() == ELOOP || file.error().code() == ENXIO)) return fail(ESTALE);
  return file;
}

}  // namespace berth::fuse
