#include "fuse/files/handle_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "fuse/kept/requests.h"
#include "fuse/session/thread_buffer.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/identity.h"

namespace berth::fuse {
namespace {

/// The flags of a descriptor that change what reading and writing do. O_SYNC has O_DSYNC in it.
constexpr int kWays = O_APPEND | O_DIRECT | O_SYNC;

/// Opens the file of a handle once more: as the daemon, and as the caller where the daemon means nothing to the server.
Result<UniqueFd> open_again(const Handle& handle, int flags) {
  {
    const sys::AsDaemon as_daemon;
    if (Result<UniqueFd> opened = sys::reopen(handle.fd(), flags | O_NONBLOCK | O_NOCTTY)) return opened;
  }
  return sys::reopen(handle.fd(), flags | O_NONBLOCK | O_NOCTTY);
}

/// A descriptor that reads or writes in the ways that a request wants, which may not be those of the handle.
class Through {
 public:
  /// `access`: O_RDONLY or O_WRONLY. `wanted`: of kWays. Only O_APPEND and O_DIRECT can be taken from a descriptor
  /// (fcntl(2)); that is done where the file cannot be opened again, for as long as the handle is open.
  static Through make(const Handle& handle, int access, int wanted) {
    const int unwanted = handle.flags & kWays & ~wanted;
    if (unwanted == 0) return {handle.fd(), {}};
    if (Result<UniqueFd> other = open_again(handle, access | wanted)) {
      const int fd = other->get();
      return {fd, *std::move(other)};
    }
    const int now = ::fcntl(handle.fd(), F_GETFL);
    if (now >= 0) ::fcntl(handle.fd(), F_SETFL, now & ~(unwanted & (O_APPEND | O_DIRECT)));
    return {handle.fd(), {}};
  }

  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  Through(int fd, UniqueFd other) noexcept : fd_(fd), other_(std::move(other)) {}

  int fd_;
  UniqueFd other_;  ///< empty: it is the handle's own
};

/// How many of `bytes` the file has at `offset`, from the first one on, if nothing else follows these; else 0. The
/// handle may be for writing alone.
std::size_t left_at(const Handle& handle, std::span<const char> bytes, off_t offset) {
  const Result<UniqueFd> readable = open_again(handle, O_RDONLY);
  if (!readable) {
    // Only its size can be known.
    const Result<struct statx> x = sys::stat_at(handle.fd(), "", STATX_SIZE);
    const std::uint64_t start = static_cast<std::uint64_t>(offset);
    return x && x->stx_size > start ? std::min<std::size_t>(x->stx_size - start, bytes.size()) : 0;
  }
  std::vector<char> there(bytes.size());
  std::size_t size = 0;
  while (size < there.size()) {
    const ssize_t part =
        ::pread(readable->get(), there.data() + size, there.size() - size, offset + static_cast<off_t>(size));
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) break;
    size += static_cast<std::size_t>(part);
  }
  return std::equal(there.begin(), there.begin() + static_cast<std::ptrdiff_t>(size), bytes.begin()) ? size : 0;
}

/// How many of `bytes` this very request has appended before the last server died, which may have been in the middle of
/// its system call: all, or those up to the end of the file. Notes where it is about to append, if that is not known.
/// If another program appends to the same file in that moment, the two cannot be told apart.
std::size_t appended_already(const Handle& handle, std::span<const char> bytes) {
  if (!CurrentRequest::is_noted()) return 0;
  const FirstAttempt* const first_attempt = CurrentRequest::first_attempt();
  if (first_attempt != nullptr && first_attempt->intent == IntentRecord::kAppend) {
    return left_at(handle, bytes, static_cast<off_t>(first_attempt->size));
  }
  const Result<struct statx> x = sys::stat_at(handle.fd(), "", STATX_SIZE);
  if (x) CurrentRequest::note_intent(IntentRecord::kAppend, {}, x->stx_size);
  crash_point("append-noted");
  return 0;
}

/// `flags`: of RWF_*. Errors: EINTR is not one.
ssize_t write_some(int fd, std::span<const char> bytes, off_t offset, int flags) {
  const iovec part{const_cast<char*>(bytes.data()), bytes.size()};  // NOLINT: writev(2) does not write to it
  for (;;) {
    const ssize_t written = ::pwritev2(fd, &part, 1, offset, flags);
    if (written >= 0 || errno != EINTR) return written;
  }
}

/// How much of a copy there is to do: what the source has. It may grow by what is copied, when that is the same file,
/// and then a second attempt is to copy what the first one would have.
std::size_t to_copy(const Handle& from, off_t from_offset, std::size_t size) {
  if (!CurrentRequest::is_noted()) return size;
  const FirstAttempt* const first_attempt = CurrentRequest::first_attempt();
  if (first_attempt != nullptr && first_attempt->intent == IntentRecord::kCopy)
    return std::min<std::size_t>(size, first_attempt->size);
  const Result<struct statx> x = sys::stat_at(from.fd(), "", STATX_SIZE);
  if (!x) return size;
  const auto start = static_cast<std::uint64_t>(from_offset);
  size = std::min<std::size_t>(size, x->stx_size > start ? x->stx_size - start : 0);
  CurrentRequest::note_intent(IntentRecord::kCopy, {}, size);
  crash_point("copy-noted");
  return size;
}

}  // namespace

Result<std::size_t> read_at(const Handle& handle, std::span<char> buffer, off_t offset, int flags) {
  const Through through = Through::make(handle, O_RDONLY, (flags & kWays) | (handle.flags & kWays & ~O_DIRECT));
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t size =
        ::pread(through.fd(), buffer.data() + done, buffer.size() - done, offset + static_cast<off_t>(done));
    if (size < 0 && errno == EINTR) continue;
    // EINVAL: with O_DIRECT, of the rest of a block in which the file ends.
    if (size < 0 && (done == 0 || errno != EINVAL)) return fail_errno();
    if (size <= 0) break;
    done += static_cast<std::size_t>(size);
  }
  return done;
}

Result<std::size_t> write_at(const Handle& handle, std::span<const char> bytes, off_t offset, int flags) {
  const bool append = (flags & O_APPEND) != 0;
  std::size_t done = append ? appended_already(handle, bytes) : 0;
  if (done == bytes.size()) return done;
  const Through through = Through::make(handle, O_WRONLY, flags & kWays);
  // Only what begins at a page of memory can be written past the page cache.
  if ((flags & handle.flags & O_DIRECT) != 0) {
    const std::span<char> aligned = thread_buffer(bytes.size());
    std::memcpy(aligned.data(), bytes.data(), bytes.size());
    bytes = aligned;
  }
  while (done < bytes.size()) {
    const ssize_t written =
        write_some(through.fd(), bytes.subspan(done), offset + static_cast<off_t>(done), append ? RWF_APPEND : 0);
    if (written < 0 && done == 0) return fail_errno();
    if (written <= 0) break;
    done += static_cast<std::size_t>(written);
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
  size = to_copy(from, from_offset, std::min(size, kMostAtOnce));
  // The caller's kernel refuses a target with O_APPEND, but the caller may have taken the flag off (fcntl(2)).
  const Through target = Through::make(to, O_WRONLY, to.flags & kWays & ~O_APPEND);
  const ssize_t copied = ::copy_file_range(from.fd(), &from_offset, target.fd(), &to_offset, size, 0);
  crash_point("copied");
  if (copied < 0) return fail_errno();
  return static_cast<std::size_t>(copied);
}

bool ioctl_changes(unsigned command) noexcept { return command == FS_IOC_SETFLAGS || command == FS_IOC_FSSETXATTR; }

Result<> ioctl_file(const Handle& handle, unsigned command, std::span<char> bytes) {
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

Result<> sync_file(const Handle& handle, bool data_only) {
  const int result = data_only ? ::fdatasync(handle.fd()) : ::fsync(handle.fd());
  if (result != 0) return fail_errno();
  return {};
}

}  // namespace berth::fuse
