#pragma once

#include <linux/fuse.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

/// The FUSE protocol as the kernel speaks it: linux/fuse.h, and here what is not in it or newer than Debian 12's
/// (7.38).
namespace berth::fuse::protocol {

/// Room for the headers before the data of a request, in bytes of a read buffer: what libfuse and the kernel reserve
/// (the kernel requires FUSE_MIN_READ_BUFFER, and max_write plus the headers of a WRITE).
inline constexpr std::size_t kHeaderRoom = 4096;

/// The header of a request; zeros where the message is too short for one.
inline fuse_in_header header_of(std::span<const char> message) noexcept {
  fuse_in_header header{};
  if (message.size() >= sizeof header) std::memcpy(&header, message.data(), sizeof header);
  return header;
}

/// A request as it was read, with its header decoded once. The bytes are its reader's.
struct Message {
  std::span<char> bytes;
  fuse_in_header header{};

  Message() noexcept = default;
  explicit Message(std::span<char> read) noexcept : bytes(read), header(header_of(read)) {}
};

/// Whether a caller waits until a request of that kind has been handled.
constexpr bool needs_answer(std::uint32_t opcode) noexcept {
  switch (opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_INTERRUPT:
      return false;
    default:
      return true;
  }
}

/// Whether a request of that kind must be done even when its caller has given up: it ends what the caller has had.
constexpr bool must_be_done(std::uint32_t opcode) noexcept {
  return opcode == FUSE_FLUSH || opcode == FUSE_RELEASE || opcode == FUSE_RELEASEDIR;
}

/// How many bytes of pages a request writes back for the kernel; 0: it does something else. No process waits for its
/// answer in a way that a signal could end: close(2), msync(2) and the end of a process wait in the kernel until it
/// comes.
inline std::uint32_t size_written_back(const Message& message) noexcept {
  fuse_write_in in{};
  if (message.header.opcode != FUSE_WRITE || message.bytes.size() < sizeof(fuse_in_header) + sizeof in) return 0;
  std::memcpy(&in, message.bytes.data() + sizeof(fuse_in_header), sizeof in);
  return (in.write_flags & FUSE_WRITE_CACHE) != 0 ? in.size : 0;
}

/// Whether a request is a READ that fills pages of the kernel's cache, as of a read-ahead. The READ of direct I/O has a
/// lock owner (fuse_send_read(), fs/fuse/file.c), and may be waited for by another thread than the one that it names.
inline bool reads_pages(const Message& message) noexcept {
  fuse_read_in in{};
  if (message.header.opcode != FUSE_READ || message.bytes.size() < sizeof(fuse_in_header) + sizeof in) return false;
  std::memcpy(&in, message.bytes.data() + sizeof(fuse_in_header), sizeof in);
  return (in.read_flags & FUSE_READ_LOCKOWNER) == 0;
}

/// The node whose file a COPY_FILE_RANGE changes; 0: it is none.
inline std::uint64_t target_of_copy(const Message& message) noexcept {
  fuse_copy_file_range_in in{};
  if (message.header.opcode != FUSE_COPY_FILE_RANGE || message.bytes.size() < sizeof(fuse_in_header) + sizeof in)
    return 0;
  std::memcpy(&in, message.bytes.data() + sizeof(fuse_in_header), sizeof in);
  return in.nodeid_out;
}

/// Whether a request changes nothing, whenever it is done. An OPEN may truncate its file: the caller looks at that.
constexpr bool changes_nothing(std::uint32_t opcode) noexcept {
  switch (opcode) {
    case FUSE_LOOKUP:
    case FUSE_GETATTR:
    case FUSE_READLINK:
    case FUSE_OPEN:
    case FUSE_READ:
    case FUSE_STATFS:
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR:
    case FUSE_OPENDIR:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_ACCESS:
    case FUSE_GETLK:
    case FUSE_LSEEK:
    case FUSE_POLL:
      return true;
    default:
      return false;
  }
}

/// The number of the request that an INTERRUPT is about; 0 where the message is too short for one.
inline std::uint64_t interrupted_by(std::span<const char> message) noexcept {
  fuse_interrupt_in in{};
  if (message.size() >= sizeof(fuse_in_header) + sizeof in)
    std::memcpy(&in, message.data() + sizeof(fuse_in_header), sizeof in);
  return in.unique;
}

/// FUSE_NOTIFY_RESEND (7.40): the kernel sends again every request that has been read and not answered.
inline constexpr int kNotifyResend = 7;
/// FUSE_UNIQUE_RESEND (7.40): in the number of a request that is sent again.
inline constexpr std::uint64_t kUniqueResend = std::uint64_t{1} << 63;

/// FUSE_NOTIFY_PRUNE (7.45, Linux 6.18): the kernel drops what it caches of nodes that are not in use.
inline constexpr int kNotifyPrune = 9;

/// struct fuse_notify_prune_out; node ids follow.
struct PruneNotification {
  std::uint32_t count;
  std::uint32_t padding;
  std::uint64_t spare;
};

// FUSE passthrough (7.40, Linux 6.9).

/// Of INIT, in `flags2`: FUSE_PASSTHROUGH (bit 37).
inline constexpr std::uint32_t kInitPassthrough = 1U << 5;
/// Of OPEN and CREATE, in `open_flags`: FOPEN_PASSTHROUGH.
inline constexpr std::uint32_t kOpenPassthrough = 1U << 7;

/// struct fuse_init_out, with what has come to it since.
struct InitAnswer {
  std::uint32_t major;
  std::uint32_t minor;
  std::uint32_t max_readahead;
  std::uint32_t flags;
  std::uint16_t max_background;
  std::uint16_t congestion_threshold;
  std::uint32_t max_write;
  std::uint32_t time_gran;
  std::uint16_t max_pages;
  std::uint16_t map_alignment;
  std::uint32_t flags2;
  std::uint32_t max_stack_depth;
  std::uint32_t unused[6];
};
static_assert(sizeof(InitAnswer) == sizeof(fuse_init_out));

/// struct fuse_open_out, with what has come to it since.
struct OpenAnswer {
  std::uint64_t handle;
  std::uint32_t flags;
  std::int32_t backing_id;
};
static_assert(sizeof(OpenAnswer) == sizeof(fuse_open_out));

// Requests that libfuse 3.14 does not know.

/// FUSE_STATX (7.39).
inline constexpr std::uint32_t kStatx = 52;

/// struct fuse_sx_time.
struct StatxTime {
  std::int64_t seconds;
  std::uint32_t nanoseconds;
  std::int32_t reserved;
};

/// struct fuse_statx_out, with the fuse_statx in it.
struct StatxAnswer {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec;
  std::uint32_t flags;
  std::uint64_t spare[2];
  std::uint32_t mask;  ///< STATX_* of statx(2): what is there
  std::uint32_t blksize;
  std::uint64_t attributes;
  std::uint32_t nlink;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint16_t mode;
  std::uint16_t spare0;
  std::uint64_t ino;
  std::uint64_t size;
  std::uint64_t blocks;
  std::uint64_t attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  std::uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  std::uint64_t spare2[14];
};
static_assert(sizeof(StatxAnswer) == 288);

/// struct fuse_backing_map.
struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
inline constexpr unsigned long kBackingOpen = _IOW(FUSE_DEV_IOC_MAGIC, 1, BackingMap);
inline constexpr unsigned long kBackingClose = _IOW(FUSE_DEV_IOC_MAGIC, 2, std::uint32_t);

}  // namespace berth::fuse::protocol
