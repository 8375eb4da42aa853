#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fuse/files/handle_io.h"
#include "fuse/session/this_request.h"
#include "fuse/session/thread_buffer.h"
#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"
#include "src/lib/base/crash_point.h"

// The operations of ShareFs on files that are opened or open.
namespace berth::fuse {
namespace {

/// Pages that the kernel writes back come from no caller in particular, as on any file system.
sys::Identity writer(const sys::Identity& caller, bool written_back) noexcept {
  return written_back ? sys::Identity{} : caller;
}

/// What fsync(2) and close(2) are told: also of a write that was answered before it had ended. A caller that has gone
/// is not told, so that the next one is.
Result<> with_late_error(const HandleTable& handles, Handle& handle, Result<> done) {
  // The file server may tell it once (sshfs).
  if (!done && this_request::is_given_up()) handles.note_late_error(handle.node, done.error().code());
  if (!done || this_request::is_given_up()) return done;
  const int late = handles.take_late_error(handle);
  if (late != 0) return fail(Error(late));
  return done;
}

/// Pages that the kernel writes back. It takes a part for the whole (fuse_writepage_end()), so that the error is told
/// which keeps the rest from being written.
Result<std::size_t> write_back_at(const Handle& handle, std::span<const char> bytes, off_t offset) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const std::size_t written = TRY(write_at(handle, bytes.subspan(done), offset + static_cast<off_t>(done), 0));
    if (written == 0) return fail(EIO);
    done += written;
  }
  return done;
}

}  // namespace

void ShareFs::open(Reply reply, NodeId node, const fuse_file_info& handle) {
  if ((handle.flags & O_TRUNC) != 0) this_request::set_changes();
  core_->with_share(
      std::move(reply), node, Core::to_open(handle.flags),
      [core = core_.get(), node, flags = handle.flags](const ShareRequest& request) {
        return core->real_files.open(request, node, flags);
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::create(Reply reply, NodeId parent, const char* name, mode_t mode, const fuse_file_info& handle) {
  core_->with_share(
      std::move(reply), parent, Core::to_create(handle.flags),
      [core = core_.get(), parent, name = std::string(name), mode, flags = handle.flags](const ShareRequest& request) {
        return core->real_files.create(request, parent, name.c_str(), mode, flags);
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::create_nameless(Reply reply, NodeId parent, mode_t mode, const fuse_file_info& handle) {
  core_->with_share(
      std::move(reply), parent, Core::to_create(handle.flags),
      [core = core_.get(), parent, mode, flags = handle.flags](const ShareRequest& request) {
        return core->real_files.create_nameless(request, parent, mode, flags);
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::read(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  // A request that reads a page for a mapping, or ahead, does not name its process (fuse_read_args_fill(),
  // FUSE_READ_LOCKOWNER).
  const int flags = handle.lock_owner != 0 ? handle.flags : 0;
  core_->with_file(std::move(reply), node, handle.fh,
                   [size, offset, flags](const ShareRequest&, const Handle& open, Reply& to) -> Result<> {
                     if (open.directory) return fail(EISDIR);
                     // With whatever identity this thread has where the file is local: permission to read was given
                     // when it was opened.
                     const std::span<char> buffer = thread_buffer(size);
                     std::move(to).data(buffer.first(TRY(read_at(open, buffer, offset, flags))));
                     return {};
                   });
}

void ShareFs::write(Reply reply, NodeId node, std::span<const char> bytes, off_t offset, const fuse_file_info& handle) {
  const bool written_back = handle.writepage != 0;
  const auto write = [core = core_.get(), offset, flags = handle.flags, written_back](
                         const ShareRequest& request, Handle& open, Reply& to, std::span<const char> from) -> Result<> {
    const ShareRequest as{request.share, request.lease, writer(request.caller, written_back)};
    TRY_VOID(as.assume_caller());
    const Result<std::size_t> written =
        written_back ? write_back_at(open, from, offset) : write_at(open, from, offset, flags);
    // As on NFS: the write was pending when it was answered.
    if (!written && this_request::is_given_up()) core->handles.note_late_error(open.node, written.error().code());
    if (!written) return fail(written.error());
    if (written_back) this_request::set_written();
    core->real_files.note_written(request.share, open);
    std::move(to).written(*written);
    return {};
  };
  core_->with_file_or_copy(
      std::move(reply), node, handle.fh,
      [write, bytes](const ShareRequest& request, Handle& open, Reply& to) { return write(request, open, to, bytes); },
      [write, bytes] {
        return [write, copy = std::vector<char>(bytes.begin(), bytes.end())](
                   const ShareRequest& request, Handle& open, Reply& to) { return write(request, open, to, copy); };
      });
}

void ShareFs::fallocate(Reply reply, NodeId node, int mode, off_t offset, off_t length, const fuse_file_info& handle) {
  core_->with_handle(std::move(reply), node, handle.fh, [&](const ShareRequest& request, Handle& open, Reply to) {
    if (const Result<> acts = request.assume_caller(); !acts) return std::move(to).error(acts.error());
    const Result<> done = ::fallocate(open.fd(), mode, offset, length) == 0 ? Result<>() : fail_errno();
    crash_point("allocated");
    if (done) core_->real_files.note_written(request.share, open);
    core_->answer(request, std::move(to), node, done);
  });
}

void ShareFs::lseek(Reply reply, NodeId node, off_t offset, int whence, const fuse_file_info& handle) {
  core_->with_file(std::move(reply), node, handle.fh,
                   [offset, whence](const ShareRequest&, const Handle& open, Reply& to) -> Result<> {
                     const off_t found = ::lseek(open.fd(), offset, whence);
                     if (found < 0) return fail_errno();
                     std::move(to).offset(found);
                     return {};
                   });
}

void ShareFs::copy(Reply reply, const Position& from, const Position& to, std::size_t size) {
  const std::shared_ptr<Handle> target = core_->handles.find(to.handle.fh, to.node);
  if (target == nullptr) return std::move(reply).error(EBADF);
  core_->with_handle(std::move(reply), from.node, from.handle.fh,
                     [&](const ShareRequest& request, const Handle& source, Reply answer) {
                       if (const Result<> acts = request.assume_caller(); !acts)
                         return std::move(answer).error(acts.error());
                       const Result<std::size_t> done = fuse::copy(source, from.offset, *target, to.offset, size);
                       if (!done) return core_->reply_error(request, std::move(answer), done.error());
                       core_->real_files.note_written(*core_->shares.find(target->share), *target);
                       std::move(answer).written(*done);
                     });
}

void ShareFs::ioctl(Reply reply, NodeId node, unsigned command, const fuse_file_info& handle,
                    std::span<const char> bytes, std::size_t answer_size) {
  const Core::Access access = ioctl_changes(command) ? Core::Access::kModify : Core::Access::kRead;
  const auto perform = [&](const ShareRequest& request, const Handle& open) -> Result<Controlled> {
    TRY_VOID(request.assume_caller());
    const std::span<char> argument = thread_buffer(std::max(bytes.size(), answer_size));
    std::copy(bytes.begin(), bytes.end(), argument.begin());
    TRY_VOID(ioctl_file(open, command, argument));
    return Controlled{argument.first(answer_size), ioctl_changes(command)};
  };
  core_->with_handle_as_caller(std::move(reply), node, handle.fh, access, perform);
}

void ShareFs::flush(Reply reply, NodeId node, const fuse_file_info& handle) {
  core_->with_handle(std::move(reply), node, handle.fh, [&](const ShareRequest& request, Handle& open, Reply to) {
    if (core_->locks.drop_owner(node, handle.lock_owner)) core_->waiters.wake(open.share);
    Result<> flushed = request.share.is_local() ? Result<>() : fuse::flush(open);
    // What was only read has nothing to lose when its mount is dead.
    if (!flushed && core_->is_to_be_reopened(request, open, flushed.error()) && !may_write(open.flags)) flushed = {};
    core_->answer(request, std::move(to), node, with_late_error(core_->handles, open, std::move(flushed)));
    core_->handles.note_told(open);
  });
}

void ShareFs::fsync(Reply reply, NodeId node, bool data_only, const fuse_file_info& handle) {
  core_->with_handle(
      std::move(reply), node, handle.fh, [this, node, data_only](const ShareRequest& request, Handle& open, Reply to) {
        core_->answer(request, std::move(to), node, with_late_error(core_->handles, open, sync_file(open, data_only)));
        core_->handles.note_told(open);
      });
}

void ShareFs::release(Reply reply, NodeId node, const fuse_file_info& handle) {
  const std::optional<ShareIndex> share = core_->nodes.share_of(node);
  // The kernel may have this very descriptor registered as a backing file, and keep it open.
  std::shared_ptr<Handle> locked = handle.flock_release != 0 ? core_->handles.find(handle.fh, node) : nullptr;
  const bool closed = core_->real_files.close(handle.fh, node);
  // Now: a request for a lock that comes later, of a caller that has gone, finds that the handle is closed.
  core_->locks.drop_handle(node, handle.fh);
  if (locked != nullptr) ::flock(locked->fd(), LOCK_UN);
  locked = nullptr;
  if (share) core_->waiters.wake(*share);
  std::move(reply).error(closed ? 0 : EBADF);
}

}  // namespace berth::fuse
