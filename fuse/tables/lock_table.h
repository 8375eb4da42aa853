#pragma once

#include <fcntl.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <unordered_map>
#include <vector>

#include "fuse/kept/kept_state.h"
#include "fuse/tables/handle_table.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// The owner of locked ranges of a file: the kernel's number for a process, or for an open file (F_OFD_SETLK).
using LockOwner = std::uint64_t;

/// The record locks (fcntl(2)) that are held through the namespace, on the real files. So they conflict with the locks
/// of programs that lock the real file past berth, in both directions.
///
/// - The ranges of an owner are held by an open file description of their own, as OFD locks: those of one owner must
///   not conflict with each other, and all end when it is closed. It is opened for writing if the owner's first handle
///   is. Otherwise another one takes its place at the first write lock, because a file that is open for writing cannot
///   be executed; the locks of a FUSE server that keeps them itself cannot be carried over to it. An owner's locks end
///   when the owner closes any descriptor of the file (drop_owner, by FLUSH), and at the latest when a handle by which
///   it locked is closed (drop_handle).
///
/// - What a successor needs is in memory that outlives the server (LockArea): the descriptors stay open when it dies.
///
/// Threading: any thread may call anything. Nothing waits here.
class LockTable {
 public:
  /// `area`: outlives the table; null: there will be no successor. `handles`: its OpenFiles counts the
  /// descriptors of locks as well; outlives the table; null: they are not bounded.
  explicit LockTable(LockArea* area = nullptr, HandleTable* handles = nullptr) noexcept
      : area_(area), handles_(handles) {}

  /// Takes over what a dead server has left: the descriptors of locks out of `inherited`, which is sorted. Handles are
  /// taken over already. No other thread uses the table yet.
  void take_over(std::vector<int>& inherited);

  /// A lock that is asked for, set or given back.
  struct Request {
    const Handle& handle;
    std::uint64_t number;  ///< of the handle
    LockOwner owner;
    struct flock range;  ///< l_whence SEEK_SET; l_pid: the caller's process
  };

  /// F_SETLK. Errors: EAGAIN when another owner's lock conflicts; ENOLCK when no descriptor is left for locks of the
  /// user that opened the file.
  Result<> set(const Request& request);
  /// F_GETLK: the lock that is in the way, or F_UNLCK.
  Result<struct flock> find(const Request& request) const;

  /// What an owner had locked in the range of a request.
  struct Held {
    std::uint64_t holder = 0;            ///< Holder::number; 0: none
    std::vector<struct flock> ranges{};  ///< in order
  };
  /// By /proc, so without the locks that a FUSE server keeps itself.
  [[nodiscard]] Held held(const Request& request) const;
  /// Gives back what the request has set, but for what the owner had before. Nothing that the owner had is put back
  /// where all its locks have ended since.
  void put_back(const Request& request, const Held& before) noexcept;

  /// A request that waits for a lock, as long as this lives.
  class Wait {
   public:
    Wait(LockTable& table, const Request& request);
    ~Wait();
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

   private:
    friend class LockTable;
    LockTable& table_;
    const NodeId node_;
    const LockOwner owner_;
    const struct flock range_;
  };
  /// Whether each waits for the next and the last of them for `wait`, so that all would wait for ever (EDEADLK). If
  /// several owners share a lock that is requested, one of them is followed, as Linux does.
  [[nodiscard]] bool is_in_circle(const Wait& wait) const;
  /// Another number whenever something has changed that may close such a circle: a lock, or a Wait.
  [[nodiscard]] std::uint64_t changes() const noexcept { return changes_.load(std::memory_order_acquire); }

  /// Answers whether there were any.
  bool drop_owner(NodeId node, LockOwner owner) noexcept;
  bool drop_handle(NodeId node, std::uint64_t number) noexcept;

  /// Whether an owner holds a lock of `node` or has held one while it was open.
  [[nodiscard]] bool is_used(NodeId node) const;

 private:
  struct Holder {
    LockOwner owner = 0;
    pid_t pid = 0;
    uid_t uid = 0;  ///< that opened the file by which the owner locked first: `file` is counted for it
    SharedFd file;
    bool writes = false;                 ///< `file` is open for writing; else its locks are to read
    std::vector<std::uint64_t> handles;  ///< by which the owner has locked
    /// From the first byte to the last one that the owner has ever asked for. Of one that was taken over: all.
    off_t first = 0;
    off_t last = std::numeric_limits<off_t>::max();
    std::uint64_t number = 0;  ///< of all that there have been in this table
  };
  using Holders = std::vector<Holder>;

  struct File {
    SharedFd file;  ///< null: none
    bool writes = false;
    std::uint64_t holder = 0;  ///< Holder::number
  };
  File file_of(NodeId node, LockOwner owner) const;
  [[nodiscard]] std::optional<Holder> holder_of(NodeId node, LockOwner asker, const struct flock& found) const;
  [[nodiscard]] LockOwner blocker_of(NodeId node, LockOwner asker, struct flock range) const;
  struct Wanted {
    NodeId node;
    struct flock range;
  };
  [[nodiscard]] std::optional<Wanted> wanted_by(LockOwner owner) const;
  Result<SharedFd> file_for(const Request& request);
  SharedFd enter(const Request& request, File file);
  void forget(const SharedFd& file) noexcept;
  void take_over(NodeId node, Holder holder);
  void note(NodeId node, const Holder& holder) const noexcept;
  template <typename Match>
  bool drop(NodeId node, const Match& match) noexcept;

  LockArea* const area_;
  HandleTable* const handles_;
  std::atomic<std::size_t> count_{0};  ///< nodes in holders_
  std::atomic<std::uint64_t> changes_{0};
  mutable Mutex mutex_;
  std::unordered_map<NodeId, Holders> holders_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t holders_made_ BERTH_GUARDED_BY(mutex_) = 0;
  std::vector<const Wait*> waits_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
