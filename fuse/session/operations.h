#pragma once

#include <fcntl.h>

#include <cstdint>
#include <span>
#include <string_view>

#include "fuse/session/lane.h"
#include "fuse/session/reply.h"

namespace berth::fuse {

/// A node as the kernel names it: a key into a table of berth's, never a pointer. Bits 61 and 62 are the owner's, so
/// that a request finds its owner without a look-up; bit 63 is never set.
using NodeId = std::uint64_t;

enum class NodeOwner : std::uint8_t {
  kNamespace = 0,  ///< the root and the plain directories above shares
  kControl = 1,    ///< .berth and everything below
  kShare = 2,      ///< the roots of shares and everything below
};
inline constexpr unsigned kOwnerShift = 61;
inline constexpr NodeId kRootNode = FUSE_ROOT_ID;
constexpr NodeOwner owner_of(NodeId node) noexcept { return static_cast<NodeOwner>((node >> kOwnerShift) & 3); }
constexpr NodeId make_node_id(NodeOwner owner, std::uint64_t key) noexcept {
  return (static_cast<NodeId>(owner) << kOwnerShift) | key;
}

/// Whether an extended attribute is an access control list. The kernel asks for it before it gives access to a caller
/// that does not own the file. If there is none, the answer must be ENODATA: on any other error the kernel refuses the
/// caller.
inline constexpr const char* kAccessList = "system.posix_acl_access";
inline constexpr const char* kDefaultList = "system.posix_acl_default";  ///< what is made in a directory gets it
constexpr bool is_access_list(std::string_view name) noexcept { return name == kAccessList || name == kDefaultList; }

/// What a part of the namespace does with the kernel's requests; one function an operation of the protocol.
///
/// Each function owns its Reply and answers it now or later. Names, spans and `fuse_file_info` are valid until it
/// returns. The default of each is the answer of a file system that does not support it. None may answer ENOSYS: the
/// kernel caches that for the whole connection, and never asks the other owners again.
///
/// Threading: any worker thread, many at once.
/// Errors: a function may throw std::bad_alloc; the dispatcher answers ENOMEM.
class Operations {
 public:
  virtual ~Operations() = default;

  /// The lane of a request by its node and opcode (FUSE_*); it outlives the session. Null: it waits for no server.
  [[nodiscard]] virtual Lane* lane_of(NodeId node, std::uint32_t opcode) const;
  /// Pages of `node` that the kernel has written back, and was told to be written, will not be. Any thread.
  virtual void note_lost_pages(NodeId) {}

  virtual void lookup(Reply reply, NodeId parent, const char* name);
  /// `count` look-ups less; has no answer.
  virtual void forget(NodeId node, std::uint64_t count) noexcept = 0;
  /// `handle` is null unless the kernel named an open file.
  virtual void getattr(Reply reply, NodeId node, const fuse_file_info* handle);
  /// `to_set`: FUSE_SET_ATTR_* bits.
  virtual void setattr(Reply reply, NodeId node, const struct stat& attributes, int to_set,
                       const fuse_file_info* handle);
  virtual void readlink(Reply reply, NodeId node);
  virtual void mknod(Reply reply, NodeId parent, const char* name, mode_t mode, dev_t device);
  virtual void mkdir(Reply reply, NodeId parent, const char* name, mode_t mode);
  virtual void unlink(Reply reply, NodeId parent, const char* name);
  virtual void rmdir(Reply reply, NodeId parent, const char* name);
  virtual void symlink(Reply reply, const char* target, NodeId parent, const char* name);
  /// `flags`: RENAME_* of renameat2(2). Both parents have the same owner.
  virtual void rename(Reply reply, NodeId parent, const char* name, NodeId new_parent, const char* new_name,
                      unsigned flags);
  /// `node` and `new_parent` have the same owner.
  virtual void link(Reply reply, NodeId node, NodeId new_parent, const char* new_name);
  /// `handle.flags`: as given to open(2), without O_CREAT, O_EXCL, O_NOCTTY.
  virtual void open(Reply reply, NodeId node, const fuse_file_info& handle);
  virtual void create(Reply reply, NodeId parent, const char* name, mode_t mode, const fuse_file_info& handle);
  /// A file without a name (O_TMPFILE); answered as create() is.
  virtual void create_nameless(Reply reply, NodeId parent, mode_t mode, const fuse_file_info& handle);
  virtual void read(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle);
  virtual void write(Reply reply, NodeId node, std::span<const char> bytes, off_t offset, const fuse_file_info& handle);
  virtual void flush(Reply reply, NodeId node, const fuse_file_info& handle);
  virtual void release(Reply reply, NodeId node, const fuse_file_info& handle);
  virtual void fsync(Reply reply, NodeId node, bool data_only, const fuse_file_info& handle);
  virtual void opendir(Reply reply, NodeId node, const fuse_file_info& handle);
  virtual void readdir(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle);
  virtual void readdirplus(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle);
  virtual void releasedir(Reply reply, NodeId node, const fuse_file_info& handle);
  virtual void fsyncdir(Reply reply, NodeId node, bool data_only, const fuse_file_info& handle);
  virtual void statfs(Reply reply, NodeId node);
  /// `mask`: R_OK, W_OK, X_OK, F_OK of access(2).
  virtual void access(Reply reply, NodeId node, int mask);
  /// `mode`: FALLOC_FL_* of fallocate(2).
  virtual void fallocate(Reply reply, NodeId node, int mode, off_t offset, off_t length, const fuse_file_info& handle);
  /// `whence`: SEEK_DATA or SEEK_HOLE.
  virtual void lseek(Reply reply, NodeId node, off_t offset, int whence, const fuse_file_info& handle);
  /// A place in an open file.
  struct Position {
    NodeId node;
    const fuse_file_info& handle;
    off_t offset;
  };
  /// copy_file_range(2); answered by written(). Both have the same owner.
  virtual void copy(Reply reply, const Position& from, const Position& to, std::size_t size);
  /// ioctl(2). `bytes`: the caller's input; `answer_size`: the largest output, in bytes.
  virtual void ioctl(Reply reply, NodeId node, unsigned command, const fuse_file_info& handle,
                     std::span<const char> bytes, std::size_t answer_size);
  // Locks. `handle.lock_owner` is the owner of those of fcntl(2); `range.l_pid` is the caller's process.
  virtual void getlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range);
  virtual void setlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range, bool wait);
  /// `operation`: LOCK_* of flock(2).
  virtual void flock(Reply reply, NodeId node, const fuse_file_info& handle, int operation);
  // Extended attributes (xattr(7)). `size`: most bytes of an answer; 0 asks how many there are.
  virtual void getxattr(Reply reply, NodeId node, const char* name, std::size_t size);
  virtual void listxattr(Reply reply, NodeId node, std::size_t size);
  /// `flags`: XATTR_* of setxattr(2).
  virtual void setxattr(Reply reply, NodeId node, const char* name, std::span<const char> value, int flags);
  virtual void removexattr(Reply reply, NodeId node, const char* name);
  /// `waker`: null unless the kernel asks for a notification of a change; owned by the callee
  /// (fuse_pollhandle_destroy).
  virtual void poll(Reply reply, NodeId node, const fuse_file_info& handle, fuse_pollhandle* waker);
};

}  // namespace berth::fuse
