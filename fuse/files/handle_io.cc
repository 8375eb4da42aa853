#include "fuse/files/handle_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "fuse/kept/requests.h"
#include "fuse/session/scratch.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/identity.h"

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x00000020  // Linux 6.9
#endif

namespace berth::fuse {
namespace {

/// Whether the file may lie on another, which was opened with the same flags and is written by these: overlays do not hear
/// RWF_NOAPPEND (Linux 6.18, backing_file_write_iter()), nor do FUSE servers that lend files.
bool lies_on_another(int fd) {
  struct statfs s {};
  return ::fstatfs(fd, &s) == 0 && (s.f_type == OVERLAYFS_SUPER_MAGIC || s.f_type == FUSE_SUPER_MAGIC);
}

/// A descriptor without O_APPEND, for where that cannot be said of a single write.
Result<std::size_t> write_through_another(int fd, std::span<const char> bytes, off_t offset) {
  const UniqueFd other = TRY(sys::reopen(fd, O_WRONLY));
  const ssize_t written = ::pwrite(other.get(), bytes.data(), bytes.size(), offset);
  if (written < 0) return fail_errno();
  return static_cast<std::size_t>(written);
}

Result<std::size_t> write_once(const Handle& handle, std::span<const char> bytes, off_t offset, bool append) {
  const bool appends = (handle.flags & O_APPEND) != 0;
  ssize_t written = 0;
  if (append == appends) {
    written = ::pwrite(handle.fd(), bytes.data(), bytes.size(), offset);
  } else if (!append && lies_on_another(handle.fd())) {
    return write_through_another(handle.fd(), bytes, offset);
  } else {
    // Not as the descriptor is: pages that were written by mmap(2) reach us through any descriptor of the file.
    const iovec part{const_cast<char*>(bytes.data()), bytes.size()};  // NOLINT: writev(2) does not write to it
    written = ::pwritev2(handle.fd(), &part, 1, offset, append ? RWF_APPEND : RWF_NOAPPEND);
    if (written < 0 && !append && (errno == EOPNOTSUPP || errno == EINVAL)) {
      return write_through_another(handle.fd(), bytes, offset);
    }
  }
  if (written < 0) return fail_errno();
  return static_cast<std::size_t>(written);
}

/// Whether the file has these bytes at `offset`. The handle may be for writing alone.
bool has_at(const Handle& handle, std::span<const char> bytes, off_t offset) {
  std::vector<char> there(bytes.size());
  UniqueFd readable;
  if ((handle.flags & O_ACCMODE) != O_RDWR) {
    const sys::AsDaemon as_daemon;
    Result<UniqueFd> opened = sys::reopen(handle.fd(), O_RDONLY);
    if (opened) readable = *std::move(opened);
  }
  const int fd = readable ? readable.get() : handle.fd();
  const ssize_t size = ::pread(fd, there.data(), there.size(), offset);
  if (size >= 0)
    return size == static_cast<ssize_t>(bytes.size()) && std::equal(bytes.begin(), bytes.end(), there.begin());
  // Nobody lets us read it: then its size must do.
  const Result<struct statx> x = sys::stat_at(handle.fd(), "", STATX_SIZE);
  return x && x->stx_size >= static_cast<std::uint64_t>(offset) + bytes.size();
}

/// Whether this very request has appended `bytes` before the last server died; notes where it is about to, if not. What
/// others append to the same file in just that moment is not told apart.
bool is_appended_already(const Handle& handle, std::span<const char> bytes) {
  if (!CurrentRequest::is_noted()) return false;
  if (const PriorAttempt* const prior = CurrentRequest::prior(); prior != nullptr) {
    if (prior->intent != IntentRecord::kAppend) return false;
    return has_at(handle, bytes, static_cast<off_t>(prior->size));
  }
  const Result<struct statx> x = sys::stat_at(handle.fd(), "", STATX_SIZE);
  if (x) CurrentRequest::note_intent(IntentRecord::kAppend, {}, x->stx_size);
  crash_point("append-noted");
  return false;
}

}  // namespace

Result<std::size_t> read_at(const Handle& handle, std::span<char> buffer, off_t offset) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t size =
        ::pread(handle.fd(), buffer.data() + done, buffer.size() - done, offset + static_cast<off_t>(done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && done == 0) return fail_errno();
    if (size <= 0) break;
    done += static_cast<std::size_t>(size);
  }
  return done;
}

Result<std::size_t> write_at(const Handle& handle, std::span<const char> bytes, off_t offset, bool append) {
  if ((handle.flags & O_DIRECT) != 0) {
    const std::span<char> aligned = scratch(bytes.size());
    std::memcpy(aligned.data(), bytes.data(), bytes.size());
    bytes = aligned;
  }
  if (append && is_appended_already(handle, bytes)) return bytes.size();
  std::size_t done = 0;
  while (done < bytes.size()) {
    Result<std::size_t> written = write_once(handle, bytes.subspan(done), offset + static_cast<off_t>(done), append);
    if (!written && written.error().code() == EINTR) continue;
    if (!written && done == 0) return written;
    if (!written || *written == 0) break;
    done += *written;
  }
  crash_point("write-done");
  return done;
}

Result<> flush(const Handle& handle) {
  const int copy = ::fcntl(handle.fd(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0 || ::close(copy) != 0) return fail_errno();
  return {};
}

Result<std::size_t> copy(const Handle& from, off_t from_offset, const Handle& to, off_t to_offset, std::size_t size) {
  constexpr std::size_t kMostAtOnce = std::size_t{64} << 20;
  const ssize_t copied =
      ::copy_file_range(from.fd(), &from_offset, to.fd(), &to_offset, std::min(size, kMostAtOnce), 0);
  crash_point("copied");
  if (copied < 0) return fail_errno();
  return static_cast<std::size_t>(copied);
}

bool changes(unsigned command) noexcept { return command == FS_IOC_SETFLAGS || command == FS_IOC_FSSETXATTR; }

Result<> control(const Handle& handle, unsigned command, std::span<char> bytes) {
  const bool of_flags = command == FS_IOC_GETFLAGS || command == FS_IOC_SETFLAGS;
  const bool of_attributes = command == FS_IOC_FSGETXATTR || command == FS_IOC_FSSETXATTR;
  if (!of_flags && !of_attributes) return fail(ENOTTY);
  // The flags are declared as long, but are int to every file system.
  const std::size_t size = of_flags ? sizeof(int) : sizeof(fsxattr);
  if (bytes.size() < size) return fail(EINVAL);
  alignas(fsxattr) std::array<char, sizeof(fsxattr)> argument{};
  std::memcpy(argument.data(), bytes.data(), size);
  if (::ioctl(handle.fd(), command, argument.data()) != 0) return fail_errno();
  std::memcpy(bytes.data(), argument.data(), size);
  return {};
}

Result<> synchronise(const Handle& handle, bool data_only) {
  const int result = data_only ? ::fdatasync(handle.fd()) : ::fsync(handle.fd());
  if (result != 0) return fail_errno();
  return {};
}

}  // namespace berth::fuse
