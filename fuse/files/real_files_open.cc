#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <utility>

#include "fuse/files/real_files.h"
#include "fuse/kept/apply_once.h"
#include "src/lib/base/hash.h"
#include "src/lib/sys/file.h"

namespace berth::fuse {
namespace {

/// The caller's flags that the real file is opened with. The caller's kernel handles the rest, or berth does
/// afterwards.
constexpr int kKeptFlags = O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC | O_NOATIME | O_DIRECT;

/// The kernel's own mark of a file that is opened to be executed (FMODE_EXEC, linux/fs.h); open(2) does not accept it.
constexpr int kOpenedToExecute = 0x20;

/// file_getattr(2) and file_setattr(2), Linux 6.17: the same numbers on all architectures.
constexpr long kFileGetattr = 468;
constexpr long kFileSetattr = 469;

/// Whether the caller's kernel opens the file on its own account, to get what ioctl(2) and file_getattr(2) show of any
/// descriptor, whatever permissions it was opened with. An open(2) sets O_LARGEFILE, or is not a 64-bit process's.
bool asks_attributes(const ShareRequest& request, int flags) {
  constexpr std::array kCalls{long{SYS_ioctl}, kFileGetattr, kFileSetattr};
  return flags == O_RDONLY && std::find(kCalls.begin(), kCalls.end(), request.system_call()) != kCalls.end();
}

Result<> truncate(int fd, int flags) {
  if (!may_write(flags)) {
    // Not truncate(2): that leaves an empty file alone, times and set-id bits included, on xfs and tmpfs.
    TRY(sys::reopen(fd, (flags & O_ACCMODE) | O_TRUNC));
    return {};
  }
  if (::ftruncate(fd, 0) != 0) return fail_errno();
  return {};
}

/// Opens the file that this request has made already. Its mode may refuse the caller that made it.
Result<UniqueFd> open_made(int directory, const char* name, int flags, const FileKey& made) {
  Result<UniqueFd> file = sys::open_beneath(directory, name, flags & ~O_CREAT);
  if (file || file.error().code() != EACCES) return file;
  const sys::AsDaemon as_daemon;
  file = sys::open_beneath(directory, name, flags & ~O_CREAT);
  if (!file) return file;
  const struct statx x = TRY(sys::stat_at(file->get(), "", STATX_INO));
  if (once::key_of(x) != made) return fail(ESTALE);
  return file;
}

/// By which two mounts of a share show whether a file is the same one; 0: that cannot be told. Inode numbers are used
/// again, so they tell nothing alone.
std::uint64_t identity_of(const KnownShare& share, const struct statx& x) noexcept {
  if (!S_ISREG(x.stx_mode)) return 0;
  const std::array<std::uint64_t, 9> parts{share.keeps_inodes() ? x.stx_ino : 0,
                                           x.stx_mode,
                                           x.stx_uid,
                                           x.stx_gid,
                                           x.stx_size,
                                           static_cast<std::uint64_t>(x.stx_mtime.tv_sec),
                                           x.stx_mtime.tv_nsec,
                                           static_cast<std::uint64_t>(x.stx_ctime.tv_sec),
                                           x.stx_ctime.tv_nsec};
  const auto* const bytes = reinterpret_cast<const char*>(parts.data());
  return fnv1a({bytes, sizeof(parts)}) | 1;
}

/// The same of a file that is opened now, to be read. Many servers tell whole seconds: a file that was changed in this
/// one may be replaced by another that looks the same. For writers (reopen = "always") that is accepted.
std::uint64_t identity_now(const KnownShare& share, const struct statx& x, int flags) noexcept {
  constexpr std::int64_t kLongestStep = 2;  // seconds, of vfat
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const bool is_recent = std::abs(now.tv_sec - x.stx_mtime.tv_sec) <= kLongestStep;
  return x.stx_mtime.tv_nsec == 0 && is_recent && !may_write(flags) ? 0 : identity_of(share, x);
}

constexpr bool has_set_id_bits(unsigned mode) noexcept { return (mode & (S_ISUID | S_ISGID)) != 0; }

}  // namespace

Opened RealFiles::keep(const ShareRequest& request, NodeId node, OpenedFile file, int flags, bool fresh) {
  auto handle = std::make_shared<Handle>();
  handle->lease = request.lease.duplicate();
  handle->file = std::make_shared<const UniqueFd>(std::move(file.fd));
  handle->node = node;
  handle->mount_generation = request.mount_generation;
  handle->share = request.share.index();
  handle->flags = flags;
  handle->pid = request.caller.pid;
  handle->uid = request.caller.uid;
  handle->directory = S_ISDIR(file.x.stx_mode);
  handle->device = request.share.file_of(file.x).device;
  handle->identity = identity_now(request.share, file.x, flags);
  const bool writes = may_write(flags);
  handle->lease.count_as_writer(writes);
  const bool no_flush = needs_no_flush(request, *handle, fresh);
  handles_.make_room(handle->fd());  // before anything is counted
  const BackingId backing = register_backing(request, node, handle->file, file.x);
  return {.handle = handles_.add(std::move(handle)),
          .direct_io = backing != kNoBacking && writes && has_set_id_bits(file.x.stx_mode),
          .no_flush = no_flush,
          .backing = backing};
}

/// Whether close(2) needs no FLUSH. A server elsewhere reports a failed write at FLUSH, and a process's record locks
/// end there. A caller that locks nearly always opens for reading and writing, or opens a file that is locked already.
/// The locks of the few others end when the handle is closed.
bool RealFiles::needs_no_flush(const ShareRequest& request, const Handle& handle, bool fresh) const {
  const int mode = handle.flags & O_ACCMODE;
  return !handle.directory && request.share.is_local() && (mode == O_RDONLY || (fresh && mode == O_WRONLY)) &&
         !locks_.is_used(handle.node);
}

/// Adds a handle to its node. The first one of a node decides whether the kernel reads and writes the file by itself.
/// It writes with the credentials of the first opener, without CAP_FSETID, so while a file has set-id bits writers ask
/// the server. A share's server elsewhere decides for each caller what may be read and written, and when, so its files
/// are not registered.
BackingId RealFiles::register_backing(const ShareRequest& request, NodeId node, const SharedFd& file,
                                      const struct statx& x) {
  if (const auto joined = nodes_.join_handles(node, file, request.mount_generation)) return *joined;
  BackingId offered = kNoBacking;
  if (S_ISREG(x.stx_mode) && passthrough_ != nullptr && passthrough_->enabled()) {
    const bool local = request.share.file_of(x).device == 0 ? request.share.is_local() : sys::is_local(file->get());
    if (local) offered = passthrough_->register_backing(file->get());
  }
  const BackingId backing = nodes_.add_handle(node, file, request.mount_generation, offered);
  if (offered != backing) passthrough_->unregister_backing(offered);
  return backing;
}

bool RealFiles::close(std::uint64_t number, NodeId node) {
  const std::shared_ptr<Handle> handle = handles_.remove(number, node);
  if (handle == nullptr) return false;
  const BackingId lent = nodes_.remove_handle(node);
  if (lent != kNoBacking) passthrough_->unregister_backing(lent);
  return true;
}

Result<Opened> RealFiles::open(const ShareRequest& request, NodeId node, int flags) {
  TRY_VOID(handles_.open_files().admit(request.caller.uid));
  Result<OpenedFile> file = finder_.open(request, node, flags & kKeptFlags);
  if (!file && file.error().code() == EACCES) {
    if ((flags & kOpenedToExecute) != 0)
      file = open_to_execute(request, node);
    else if (asks_attributes(request, flags))
      file = open_as_daemon(request, node);
  }
  if (!file) return fail(std::move(file).error());
  // Only now that it is known to be the right file.
  if ((flags & O_TRUNC) != 0) TRY_VOID(truncate(file->fd.get(), flags));
  crash_point("open-done");
  return keep(request, node, *std::move(file), flags);
}

bool RealFiles::may_reopen(const ShareRequest& request, const Handle& handle) noexcept {
  if (request.share.policy().on_stale == manager::OnStale::kError) return false;
  switch (request.share.policy().reopen) {
    case manager::Reopen::kReadOnly:
      return !may_write(handle.flags);
    case manager::Reopen::kAlways:
      return true;
    case manager::Reopen::kNever:
      break;
  }
  return false;
}

/// What the kernel remembers of a file will not do: it may be another file's by now, for FUSE keeps the inode of a path
/// whose file was replaced.
void RealFiles::note_written(const KnownShare& share, Handle& handle) const {
  if (share.is_local() || share.policy().reopen != manager::Reopen::kAlways) return;
  std::uint64_t before = handle.identity;
  if (before == 0) return;  // its path may be another file's
  const Result<struct statx> x = sys::stat_at(handle.fd(), "", STATX_BASIC_STATS);
  if (handle.identity.compare_exchange_strong(before, x ? identity_of(share, *x) : 0)) handles_.note_file(handle);
}

/// Permission to a file was given when it was opened; a directory may be another one.
Result<> RealFiles::reopen(const ShareRequest& request, Handle& handle) {
  if (handle.mount_generation == request.mount_generation) return {};
  constexpr std::size_t kLongestPath = 4095;
  const bool is_root = NodeTable::is_root(handle.node);
  const std::string path = is_root ? "." : nodes_.path_of(handle.node, kLongestPath);
  if (path.empty() || path.size() >= kLongestPath || locks_.is_used(handle.node)) return fail(EIO);
  const int kind = handle.directory ? O_DIRECTORY : O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  const Result<UniqueFd> file = [&]() -> Result<UniqueFd> {
    const auto open = [&] {
      return sys::open_beneath(request.lease.root(), path.c_str(), (handle.flags & kKeptFlags) | kind);
    };
    if (handle.directory) {
      TRY_VOID(request.assume_caller());
      return open();
    }
    const sys::AsDaemon as_daemon;
    return open();
  }();
  if (!file) return says_disconnected(file.error()) ? Result<>(fail(file.error())) : fail(EIO);
  const Result<struct statx> now = sys::stat_at(file->get(), "", STATX_BASIC_STATS);
  const bool is_same =
      now && (handle.directory || (handle.identity != 0 && identity_of(request.share, *now) == handle.identity));
  if (!is_same || ::dup3(file->get(), handle.fd(), O_CLOEXEC) < 0) return fail(EIO);
  handle.mount_generation = request.mount_generation;
  handles_.note_file(handle);
  return {};
}

/// A caller may execute a program that it may not read: its kernel then reads the file on its own account, and so does
/// berth.
Result<OpenedFile> RealFiles::open_to_execute(const ShareRequest& request, NodeId node) {
  TRY_VOID(access(request, node, X_OK));
  return open_as_daemon(request, node);
}

/// For the caller's kernel, which has decided already.
Result<OpenedFile> RealFiles::open_as_daemon(const ShareRequest& request, NodeId node) {
  const FoundFile file = TRY(finder_.find_path(request, node));
  const sys::AsDaemon as_daemon;
  UniqueFd fd = TRY(sys::reopen(file.fd, O_RDONLY));
  const struct statx x = TRY(sys::stat_at(fd.get(), "", STATX_BASIC_STATS));
  return OpenedFile{std::move(fd), x};
}

Result<Opened> RealFiles::open_directory(const ShareRequest& request, NodeId node, int flags) {
  TRY_VOID(handles_.open_files().admit(request.caller.uid));
  Result<OpenedFile> directory = finder_.open(request, node, O_RDONLY | O_DIRECTORY | (flags & O_NOATIME));
  if (!directory && directory.error().code() == EACCES && asks_attributes(request, flags)) {
    directory = open_as_daemon(request, node);
  }
  // A source that was removed a moment ago is no empty directory: the share is about to be lost (core_sources.cc).
  if (directory && directory->x.stx_nlink == 0 && NodeTable::is_root(node)) return fail(ESTALE);
  Opened opened = keep(request, node, TRY(std::move(directory)), O_RDONLY);
  const Duration valid = request.share.policy().attr_timeout;
  opened.cache_directory = valid.count() > 0;
  opened.keep_cache = opened.cache_directory && listings_.knows(node, std::chrono::steady_clock::now(), valid);
  return opened;
}

Result<RealFiles::Created> RealFiles::create(const ShareRequest& request, NodeId parent, const char* name, mode_t mode,
                                             int flags) {
  TRY_VOID(handles_.open_files().admit(request.caller.uid));
  if (!is_name(name)) return fail(EINVAL);
  const FoundFile directory = TRY(finder_.directory(request, parent));
  bool fresh = true;
  UniqueFd file = TRY(create_file(request, directory.fd, name, mode, flags, fresh));
  struct statx x = TRY(sys::stat_at(file.get(), "", STATX_BASIC_STATS));
  if (fresh) CurrentRequest::note_intent(IntentRecord::kMake, once::key_of(x));
  // The name was another kind of file all the time: the caller's kernel is to look again and treat it as such.
  if (!S_ISREG(x.stx_mode)) return fail(ESTALE);
  if (!fresh && (flags & O_TRUNC) != 0) {
    TRY_VOID(truncate(file.get(), flags));
    x = TRY(sys::stat_at(file.get(), "", STATX_BASIC_STATS));
  }
  const Entry entry = TRY(remember(request, parent, name, x, fresh));
  return keep_made(request, entry, {std::move(file), x}, flags, fresh);
}

/// The entry's look-up is counted already, and is not when this throws.
RealFiles::Created RealFiles::keep_made(const ShareRequest& request, const Entry& entry, OpenedFile file, int flags,
                                        bool fresh) {
  try {
    return {entry, keep(request, entry.node, std::move(file), flags, fresh)};
  } catch (const std::exception&) {
    CurrentRequest::note_taken_back();
    nodes_.forget(entry.node, 1);
    throw;
  }
}

Result<RealFiles::Created> RealFiles::create_nameless(const ShareRequest& request, NodeId parent, mode_t mode,
                                                      int flags) {
  TRY_VOID(handles_.open_files().admit(request.caller.uid));
  const FoundFile directory = TRY(finder_.directory(request, parent));
  TRY_VOID(request.assume_caller());
  UniqueFd file = TRY([&] {
    const sys::WithUmask masked(request.umask);
    return sys::open_beneath(directory.fd, ".", (flags & (kKeptFlags | O_EXCL)) | O_TMPFILE, mode);
  }());
  crash_point("nameless-made");
  const struct statx x = TRY(sys::stat_at(file.get(), "", STATX_BASIC_STATS));
  // A name that leads to the directory, and so never to the file.
  const Entry entry = TRY(remember(request, parent, ".", x, true));
  return keep_made(request, entry, {std::move(file), x}, flags, true);
}

/// The file, if this very request has made it before the last server died: that one has noted which file it is, or died
/// right before and had it open.
FileKey RealFiles::created_by_predecessor(int directory, const char* name) const {
  if (!once::had_intent(IntentRecord::kMake)) return {};
  const FileKey file = once::key_at(directory, name);
  const bool noted = file == CurrentRequest::first_attempt()->file;
  return noted || std::find(predecessor_files_.begin(), predecessor_files_.end(), file) != predecessor_files_.end()
             ? file
             : FileKey{};
}

/// `fresh` answers whether the file was made here. At any one time the name is taken or free. The kernel asks only when
/// it has the name cached as free, so creating is tried first.
Result<UniqueFd> RealFiles::create_file(const ShareRequest& request, int directory, const char* name, mode_t mode,
                                        int flags, bool& fresh) {
  const int common = (flags & kKeptFlags) | O_CREAT | O_NOFOLLOW | O_NOCTTY;
  TRY_VOID(request.assume_caller());
  const sys::WithUmask masked(request.umask);
  const FileKey made = created_by_predecessor(directory, name);
  if (!once::had_intent(IntentRecord::kMake) || made.inode != 0) CurrentRequest::note_intent(IntentRecord::kMake, made);
  crash_point("create-noted");
  Result<UniqueFd> file = sys::open_beneath(directory, name, common | O_EXCL, mode);
  if ((flags & O_EXCL) != 0) CurrentRequest::note_change_ended(file ? 0 : file.error().code());
  crash_point("create-done");
  fresh = file.has_value() || made.inode != 0;
  if (!file && fresh) return open_made(directory, name, common, made);
  if (file || file.error().code() != EEXIST || (flags & O_EXCL) != 0) return file;
  // With O_CREAT still, so that the rules for sticky directories hold (proc_sys_fs(5), protected_regular).
  file = sys::open_beneath(directory, name, common | O_NONBLOCK, mode);
  // A symbolic link: the caller's kernel is to look again, and to follow it.
  if (!file && (file.error().code() == ELOOP || file.error().code() == ENXIO)) return fail(ESTALE);
  return file;
}

}  // namespace berth::fuse
