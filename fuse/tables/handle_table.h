#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "fuse/kept/kept_state.h"
#include "fuse/tables/node_table.h"
#include "fuse/tables/open_files.h"
#include "manager/model/share.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/rate.h"
#include "src/lib/sys/directory_stream.h"

namespace berth::fuse {

/// Whether what is opened with these O_* can be written to. There is an access mode 3, too: neither reading nor writing
/// (open(2)).
constexpr bool may_write(int flags) noexcept {
  return (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
}

/// A file or directory of a share that a caller has open.
///
/// The kernel's name for it is the number of its real descriptor, so that the number alone shows what is open. All else
/// that is known of it is here.
///
/// Ownership: the lease keeps the share mounted, the descriptor is closed before it is given back.
/// Threading: constant but for what is atomic, and `stream` and `interrupted`, which belong to the thread that holds
/// `reading`. The number of the descriptor stays when the file is opened again (RealFiles::reopen()).
struct Handle {
  /// A directory opened once more, while a thread is stuck in reading it whose caller was interrupted. It belongs to
  /// the thread that holds `reading`.
  struct Spare {
    explicit Spare(UniqueFd directory) noexcept : file(std::move(directory)) {}
    const UniqueFd file;
    sys::DirectoryStream stream;
    std::atomic_flag reading = ATOMIC_FLAG_INIT;
  };

  manager::Lease lease;
  SharedFd file;
  NodeId node = 0;
  ShareIndex share = 0;
  std::uint32_t device = 0;                        ///< of a directory: RealFile::device
  std::atomic<std::uint32_t> mount_generation{0};  ///< of the mount that it is in
  /// Of a write that was answered before it ended: an errno value that the next fsync(2) or close(2) is told.
  std::atomic<int> late_error{0};
  /// Of the file when it was opened, or was last written to by this handle; 0: it cannot be told from another
  /// (RealFiles::reopen()).
  std::atomic<std::uint64_t> identity{0};
  int flags = 0;  ///< of the real descriptor: O_* (open(2))
  pid_t pid = 0;  ///< the thread that opened it
  uid_t uid = 0;
  bool directory = false;

  sys::DirectoryStream stream;  ///< of a directory: where reading it has come to
  bool interrupted = false;     ///< of a directory: a server died while it read it
  std::atomic_flag reading = ATOMIC_FLAG_INIT;
  Mutex mutex;
  std::shared_ptr<Spare> spare BERTH_GUARDED_BY(mutex);  ///< null: `stream` is free, or was when it was read last

  [[nodiscard]] int fd() const noexcept { return file->get(); }
};

/// Open handles, by a number of which the lower half is the descriptor's: the descriptor stays open when the server
/// dies. The upper half tells the handle from an earlier one of the same descriptor. A number that was not given out is
/// refused.
///
/// What cannot be computed again is in memory that outlives the server (HandleArea).
///
/// Threading: any thread may call anything. Split by number, each part under a lock of its own; a handle that was found
/// stays valid, and its descriptor open, while it is used.
class HandleTable {
 public:
  /// `area`: outlives the table; null: there will be no successor.
  explicit HandleTable(HandleArea* area = nullptr, OpenFiles::Limits limits = {}) noexcept
      : area_(area), open_files_(limits) {}

  /// Which of them there may be.
  [[nodiscard]] OpenFiles& open_files() noexcept { return open_files_; }

  /// Makes room for a handle with that descriptor, after which add() cannot fail.
  /// Errors: throws std::bad_alloc.
  void make_room(int descriptor);
  /// `handle->file` is open and in no table; the answer is now the handle's name.
  std::uint64_t add(std::shared_ptr<Handle> handle);
  /// Null: there is no such handle, or it is not of `node`.
  [[nodiscard]] std::shared_ptr<Handle> find(std::uint64_t number, NodeId node) const;
  /// The node of a handle, 0 when there is no such handle.
  [[nodiscard]] NodeId node_of(std::uint64_t number) const;
  /// Takes it out; null as find().
  std::shared_ptr<Handle> remove(std::uint64_t number, NodeId node);

  /// What a dead server had open; its descriptors must be taken by take_over(), or closed.
  struct Inherited {
    std::uint64_t number;
    const HandleRecord* record;
  };
  [[nodiscard]] std::vector<Inherited> inherited() const;
  /// Puts a handle of a dead server back under its number.
  void take_over(std::uint64_t number, std::shared_ptr<Handle> handle);
  /// The file of a handle was opened again, in the mount that the handle says, or was changed by it.
  void note_file(const Handle& handle) const noexcept;
  /// Those of files in a share that can be known again in its next mount (Handle::identity). Looks at all there are.
  [[nodiscard]] std::vector<std::shared_ptr<Handle>> recognizable(ShareIndex share) const;
  /// The file of `handle` cannot be known again.
  void forget_identity(Handle& handle) const noexcept;
  /// A thread begins to read a directory, or has ended.
  void note_reading(const Handle& handle, bool reads) const noexcept;
  /// For each handle of `node`. It looks at all there are.
  void note_late_error(NodeId node, int error) const noexcept;
  /// The error that is to be told, once; 0: none. The next server tells it again, until note_told().
  [[nodiscard]] int take_late_error(Handle& handle) const noexcept;
  /// What was taken has been told.
  void note_told(const Handle& handle) const noexcept;
  /// Forgets a handle that cannot be taken over; its descriptor is the caller's.
  void forget(std::uint64_t number) noexcept;

  /// Shows all handles in a share, in no order, each under a lock: `show` only looks.
  void each_of_share(ShareIndex share, const std::function<void(const Handle&)>& show) const;
  /// Handles of `node`, no more than some. First those in the mount of `generation`, then those that only read. Looks
  /// at all there are.
  [[nodiscard]] std::vector<std::shared_ptr<Handle>> find_some(NodeId node, std::uint32_t generation) const;
  [[nodiscard]] std::size_t size() const;

 private:
  static constexpr std::size_t kParts = 32;
  struct Slot {
    std::shared_ptr<Handle> handle;
    std::uint32_t sequence = 0;
  };
  static constexpr std::uint32_t descriptor_of(std::uint64_t number) noexcept {
    return static_cast<std::uint32_t>(number);
  }
  static constexpr std::uint32_t sequence_of(std::uint64_t number) noexcept {
    return static_cast<std::uint32_t>(number >> 32);
  }
  [[nodiscard]] HandleRecord* record_of(std::uint32_t descriptor) const noexcept {
    return area_ != nullptr && descriptor < HandleArea::kMaxHandles ? &area_->handles[descriptor] : nullptr;
  }
  [[nodiscard]] HandleRecord* record_of(const Handle& handle) const noexcept {
    return record_of(static_cast<std::uint32_t>(handle.fd()));
  }
  void note(const Handle& handle, std::uint32_t descriptor, std::uint32_t sequence) const noexcept;
  void tell_lost(const std::string& share, int error);

  struct Part {
    mutable Mutex mutex;
    std::vector<Slot> slots BERTH_GUARDED_BY(mutex);  ///< by descriptor / kParts

    Slot* find(std::uint64_t number, NodeId node) BERTH_REQUIRES(mutex);
  };
  HandleArea* const area_;
  OpenFiles open_files_;
  Mutex lost_mutex_;
  Rate tells_lost_ BERTH_GUARDED_BY(lost_mutex_){1, std::chrono::seconds(1)};  ///< a user may lose much
  mutable Part parts_[kParts];
};

}  // namespace berth::fuse
