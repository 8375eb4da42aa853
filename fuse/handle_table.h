#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "fuse/directory_stream.h"
#include "fuse/node_table.h"
#include "manager/share.h"
#include "src/base/mutex.h"

namespace berth::fuse {

/// A file or directory of a share that somebody has open.
///
/// The kernel's name for it is the number of its real descriptor, so that the number alone says what is open; what else
/// is known of it is here.
///
/// Ownership: the lease keeps the share mounted, the descriptor is closed before it is given back.
/// Threading: constant but for `stream`, which is of whoever holds `reading`.
struct Handle {
  manager::Lease lease;
  SharedFd file;
  NodeId node = 0;
  ShareIndex share = 0;
  std::uint32_t device = 0;            ///< of a directory: RealFile::device
  std::uint32_t mount_generation = 0;  ///< of the mount that it is in
  int flags = 0;                       ///< of the real descriptor: O_* (open(2))
  pid_t pid = 0;                       ///< the thread that opened it
  uid_t uid = 0;
  bool directory = false;

  DirectoryStream stream;  ///< of a directory: where reading it has come to
  std::atomic_flag reading = ATOMIC_FLAG_INIT;

  [[nodiscard]] int fd() const noexcept { return file->get(); }
};

/// What is open, by descriptor number. A number that was not given out is refused.
///
/// Threading: any thread may call anything. Split by number, each part under a lock of its own; a handle that was found
/// stays valid, and its descriptor open, while it is used.
class HandleTable {
 public:
  /// `handle->file` is open and in no table; its number is now the handle's name.
  std::uint64_t add(std::shared_ptr<Handle> handle);
  /// Null: there is no such handle, or it is not of `node`.
  [[nodiscard]] std::shared_ptr<Handle> find(std::uint64_t number, NodeId node) const;
  /// Takes it out; null as find().
  std::shared_ptr<Handle> remove(std::uint64_t number, NodeId node);

  /// All handles in a share, in no order.
  [[nodiscard]] std::vector<std::shared_ptr<Handle>> of_share(ShareIndex share) const;
  /// Some handle of `node`. Looks at all there are.
  [[nodiscard]] std::shared_ptr<Handle> find_any(NodeId node) const;
  [[nodiscard]] std::size_t size() const;

 private:
  static constexpr std::size_t kParts = 32;
  struct Part {
    mutable Mutex mutex;
    std::vector<std::shared_ptr<Handle>> handles BERTH_GUARDED_BY(mutex);  ///< by number / kParts
  };
  Part parts_[kParts];
};

}  // namespace berth::fuse
