#include "fuse/files/real_files.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "fuse/kept/apply_once.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/sys/file.h"

namespace berth::fuse {
namespace {

Result<> check(long result) noexcept {
  if (result < 0) return fail_errno();
  return {};
}

/// What utimensat(2) takes for one of the two times.
timespec time_to_set(int to_set, int set, int set_now, timespec time) noexcept {
  if ((to_set & set_now) != 0) return {.tv_sec = 0, .tv_nsec = UTIME_NOW};
  if ((to_set & set) != 0) return time;
  return {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
}

/// Why a caller's kernel asks for a change of attributes that names none.
enum class EmptyChange : std::uint8_t {
  kChown,    ///< chown(2) of neither owner nor group
  kWriting,  ///< set-id bits or a capability are to go before something is written, which takes them away by itself
  kUnknown,
};

EmptyChange empty_change(const ShareRequest& request) {
  constexpr std::array kChowns{
#ifdef SYS_chown
      long{SYS_chown}, long{SYS_lchown},
#endif
      long{SYS_fchown}, long{SYS_fchownat}};
  constexpr std::array kWrites{long{SYS_write},           long{SYS_pwrite64}, long{SYS_writev},
                               long{SYS_pwritev},         long{SYS_pwritev2}, long{SYS_fallocate},
                               long{SYS_copy_file_range}, long{SYS_sendfile}, long{SYS_splice}};
  const auto is_one_of = [call = request.system_call()](const auto& calls) {
    return std::find(calls.begin(), calls.end(), call) != calls.end();
  };
  if (is_one_of(kChowns)) return EmptyChange::kChown;
  return is_one_of(kWrites) ? EmptyChange::kWriting : EmptyChange::kUnknown;
}

constexpr int kTimes = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;

}  // namespace

bool RealFiles::is_name(std::string_view name) noexcept {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos;
}

Result<Entry> RealFiles::look_up(const ShareRequest& request, NodeId parent, const char* name) {
  if (!is_name(name)) return fail(EINVAL);
  const FoundFile directory = TRY(finder_.directory(request, parent));
  TRY_VOID(request.assume_caller());
  const Result<struct statx> x = sys::stat_at(directory.fd, name, STATX_BASIC_STATS);
  if (x) return remember_in(request, parent, directory.fd, name, *x, false);
  if (x.error().code() != ENOENT) return fail(x.error());
  return Entry{.entry_ttl = request.share.attr_ttl()};
}

Result<Entry> RealFiles::entry_in(const ShareRequest& request, const Handle& directory, const char* name) {
  const struct statx x = TRY(sys::stat_at(directory.fd(), name, STATX_BASIC_STATS));
  return remember_in(request, directory.node, directory.fd(), name, x, false);
}

Result<Entry> RealFiles::remember_in(const ShareRequest& request, NodeId parent, int directory, const char* name,
                                     const struct statx& x, bool fresh) {
  Result<Entry> entry = remember(request, parent, name, x, fresh);
  if (entry && S_ISDIR(x.stx_mode)) finder_.note_directory(request, entry->node, directory, name);
  return entry;
}

Result<Entry> RealFiles::remember(const ShareRequest& request, NodeId parent, const char* name, const struct statx& x,
                                  bool fresh) {
  const NodeId node =
      nodes_.remember(request.share.file_of(x), x.stx_mode, parent, name, fresh, request.inode_generation());
  if (node == 0) return fail(ESTALE);
  return Entry{.node = node,
               .attributes = request.share.attributes_of(x),
               .attr_ttl = request.share.attr_ttl(x.stx_mode),
               .entry_ttl = request.share.attr_ttl()};
}

Result<struct statx> RealFiles::attributes(const ShareRequest& request, NodeId node) {
  Result<struct statx> found = finder_.stat(request, node);
  if (!found && found.error().code() == ESTALE) found = attributes_of_reopened(request, node);
  const struct statx x = TRY(std::move(found));
  if (NodeTable::is_root(node)) request.share.remember_root(x);
  return x;
}

/// The kernel names no handle for fstat(2), and in this mount the file may have another inode number.
Result<struct statx> RealFiles::attributes_of_reopened(const ShareRequest& request, NodeId node) {
  for (const std::shared_ptr<Handle>& handle : handles_.find_some(node, request.mount_generation)) {
    if (handle->directory || !may_reopen(request, *handle) || !reopen(request, *handle)) continue;
    return sys::stat_at(handle->fd(), "", kAllAttributes);
  }
  return fail(ESTALE);
}

Result<struct stat> RealFiles::set_attributes(const ShareRequest& request, NodeId node, const struct stat& attributes,
                                              int to_set, const Handle* handle) {
  const FoundFile at =
      handle != nullptr ? FoundFile{handle->fd(), handle->file} : TRY(finder_.find_path(request, node));
  const std::string path = sys::proc_path(at.fd);
  const EmptyChange empty = to_set == 0 ? empty_change(request) : EmptyChange::kUnknown;
  TRY_VOID(request.assume_caller());
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) TRY_VOID(check(::chmod(path.c_str(), attributes.st_mode & 07777)));
  // chown(2) of neither marks a change all the same.
  if ((to_set == 0 && empty != EmptyChange::kWriting) || (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) {
    const uid_t uid = (to_set & FUSE_SET_ATTR_UID) != 0 ? attributes.st_uid : static_cast<uid_t>(-1);
    const gid_t gid = (to_set & FUSE_SET_ATTR_GID) != 0 ? attributes.st_gid : static_cast<gid_t>(-1);
    const Result<> owned = check(::fchownat(at.fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    const bool may_be_writing = to_set == 0 && empty != EmptyChange::kChown;
    if (!owned && !(may_be_writing && owned.error().code() == EPERM)) return fail(owned.error());
  }
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
    TRY_VOID(check(handle != nullptr ? ::ftruncate(at.fd, attributes.st_size)
                                     : ::truncate(path.c_str(), attributes.st_size)));
  }
  if ((to_set & kTimes) != 0) {
    const timespec times[2] = {time_to_set(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, attributes.st_atim),
                               time_to_set(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, attributes.st_mtim)};
    TRY_VOID(check(::utimensat(at.fd, "", times, AT_EMPTY_PATH)));  // Linux 5.8
  }
  crash_point("attributes-done");
  const struct statx x = TRY(sys::stat_at(at.fd, "", STATX_BASIC_STATS));
  if (NodeTable::is_root(node)) request.share.remember_root(x);
  return request.share.attributes_of(x);
}

Result<struct statvfs> RealFiles::statistics(const ShareRequest& request, NodeId node) {
  const FoundFile at = TRY(finder_.find_path(request, node));
  TRY_VOID(request.assume_caller());
  struct statvfs statistics {};
  TRY_VOID(check(::fstatvfs(at.fd, &statistics)));
  return statistics;
}

Result<> RealFiles::access(const ShareRequest& request, NodeId node, int mask) {
  const FoundFile at = TRY(finder_.find_path(request, node));
  TRY_VOID(request.assume_caller());
  // The system call itself (Linux 5.8): the C library's emulation knows no AT_EMPTY_PATH.
  return check(::syscall(SYS_faccessat2, at.fd, "", mask, AT_EACCESS | AT_EMPTY_PATH));
}

Result<Entry> RealFiles::make_node(const ShareRequest& request, NodeId parent, const char* name, mode_t mode,
                                   dev_t device) {
  if (!is_name(name)) return fail(EINVAL);
  const FoundFile directory = TRY(finder_.directory(request, parent));
  TRY_VOID(request.assume_caller());
  TRY_VOID(once::make(directory.fd, name, [&] {
    const sys::WithUmask masked(request.umask);
    return ::mknodat(directory.fd, name, mode, device);
  }));
  return remember_new(request, parent, name, directory.fd, (mode & S_IFMT) == 0 ? S_IFREG : mode & S_IFMT);
}

Result<Entry> RealFiles::make_directory(const ShareRequest& request, NodeId parent, const char* name, mode_t mode) {
  if (!is_name(name)) return fail(EINVAL);
  const FoundFile directory = TRY(finder_.directory(request, parent));
  TRY_VOID(request.assume_caller());
  TRY_VOID(once::make(directory.fd, name, [&] {
    const sys::WithUmask masked(request.umask);
    return ::mkdirat(directory.fd, name, mode);
  }));
  return remember_new(request, parent, name, directory.fd, S_IFDIR);
}

Result<Entry> RealFiles::make_symlink(const ShareRequest& request, NodeId parent, const char* name,
                                      const char* target) {
  if (!is_name(name)) return fail(EINVAL);
  const FoundFile directory = TRY(finder_.directory(request, parent));
  TRY_VOID(request.assume_caller());
  TRY_VOID(once::make(directory.fd, name, [&] { return ::symlinkat(target, directory.fd, name); }));
  return remember_new(request, parent, name, directory.fd, S_IFLNK);
}

/// The entry of the file that was just made. Another program may have replaced it past berth already.
Result<Entry> RealFiles::remember_new(const ShareRequest& request, NodeId parent, const char* name, int directory,
                                      mode_t type) {
  const struct statx x = TRY(sys::stat_at(directory, name, STATX_BASIC_STATS));
  if ((x.stx_mode & S_IFMT) != type) return fail(ESTALE);
  return remember_in(request, parent, directory, name, x, true);
}

Result<Entry> RealFiles::make_link(const ShareRequest& request, NodeId node, NodeId new_parent, const char* new_name) {
  if (!is_name(new_name)) return fail(EINVAL);
  const FoundFile directory = TRY(finder_.directory(request, new_parent));
  const FoundFile file = TRY(finder_.find_path(request, node));
  TRY_VOID(request.assume_caller());
  // By descriptor alone (AT_EMPTY_PATH) it takes CAP_DAC_READ_SEARCH, which the caller need not have.
  TRY_VOID(once::make(directory.fd, new_name, [&] {
    return ::linkat(AT_FDCWD, sys::proc_path(file.fd).c_str(), directory.fd, new_name, AT_SYMLINK_FOLLOW);
  }));
  const struct statx x = TRY(sys::stat_at(directory.fd, new_name, STATX_BASIC_STATS));
  return remember(request, new_parent, new_name, x, false);
}

Result<> RealFiles::remove(const ShareRequest& request, NodeId parent, const char* name, int flags) {
  if (!is_name(name)) return fail(EINVAL);
  const FoundFile directory = TRY(finder_.directory(request, parent));
  TRY_VOID(request.assume_caller());
  const auto take_away = [&] { return ::unlinkat(directory.fd, name, flags); };
  if ((flags & AT_REMOVEDIR) == 0) {
    const OpenedByName opened = opened_by_name(request, parent, name);
    TRY_VOID(once::remove(directory.fd, name, take_away));
    forget_identity(opened);
    return {};
  }
  Result<UniqueFd> removed = sys::open_beneath(directory.fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  TRY_VOID(once::remove(directory.fd, name, take_away));
  if (removed) remember_removed(request, *std::move(removed));
  return {};
}

/// What is open of the file that has that name, where a next mount may look for it by its path. Not where that is a
/// local file system, which shows inode numbers that last.
RealFiles::OpenedByName RealFiles::opened_by_name(const ShareRequest& request, NodeId parent, const char* name) const {
  OpenedByName found;
  if (request.share.is_local()) return found;
  found.handles = handles_.recognizable(request.share.index());
  if (found.handles.empty()) return found;
  const std::string directory = nodes_.path_of(parent);
  found.path = directory.empty() ? name : directory + "/" + name;
  std::erase_if(found.handles, [&](const auto& handle) { return nodes_.path_of(handle->node) != found.path; });
  return found;
}

/// From now on another file may have the path, and look the same. What has followed a rename has another one.
void RealFiles::forget_identity(const OpenedByName& opened) const {
  for (const std::shared_ptr<Handle>& handle : opened.handles) {
    if (nodes_.path_of(handle->node) == opened.path) handles_.forget_identity(*handle);
  }
}

/// A program that works in a directory that is removed still sees it, empty, though it has no name any more.
void RealFiles::remember_removed(const ShareRequest& request, UniqueFd directory) {
  const Result<struct statx> x = sys::stat_at(directory.get(), "", STATX_TYPE | STATX_INO);
  if (!x || request.share.share().gate().closed()) return;
  nodes_.keep_descriptor(request.share.file_of(*x), x->stx_mode, std::make_shared<const UniqueFd>(std::move(directory)),
                         request.mount_generation);
}

Result<> RealFiles::rename(const ShareRequest& request, NodeId parent, const char* name, NodeId new_parent,
                           const char* new_name, unsigned flags) {
  if (!is_name(name) || !is_name(new_name)) return fail(EINVAL);
  const FoundFile directory = TRY(finder_.directory(request, parent));
  const FoundFile new_directory = TRY(finder_.directory(request, new_parent));
  const OpenedByName moved = opened_by_name(request, parent, name);
  const OpenedByName replaced = opened_by_name(request, new_parent, new_name);
  TRY_VOID(request.assume_caller());
  TRY_VOID(once::move(directory.fd, name, new_directory.fd, new_name,
                      [&] { return ::renameat2(directory.fd, name, new_directory.fd, new_name, flags); }));
  follow_rename(request, new_parent, new_directory.fd, new_name);
  crash_point("move-followed");
  if ((flags & RENAME_EXCHANGE) != 0) follow_rename(request, parent, directory.fd, name);
  forget_identity(moved);
  forget_identity(replaced);
  return {};
}

/// The kernel's node of the old name is at the new name now. Nothing is lost when this fails: the next look-up of
/// the name finds the same.
void RealFiles::follow_rename(const ShareRequest& request, NodeId parent, int directory, const char* name) {
  const Result<struct statx> x = sys::stat_at(directory, name, STATX_TYPE | STATX_INO);
  if (x) nodes_.move(request.share.file_of(*x), x->stx_mode, parent, name, request.inode_generation());
}

}  // namespace berth::fuse
