#pragma once

#include <atomic>
#include <cerrno>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fuse/callers/sent_back.h"
#include "fuse/files/real_tree.h"
#include "fuse/files/visit.h"
#include "fuse/shares/admission.h"
#include "fuse/shares/lock_waiters.h"
#include "fuse/shares/share_fs.h"
#include "fuse/tables/handle_table.h"
#include "fuse/tables/known_shares.h"
#include "fuse/tables/lock_table.h"
#include "fuse/tables/node_table.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_function.h"

namespace berth::fuse {

/// An extended attribute, or their names, as they were read.
struct XattrBytes {
  std::size_t size;             ///< that it takes
  std::span<const char> bytes;  ///< null: only the size was asked for
};
/// What ioctl(2) gives its caller.
struct Controlled {
  std::span<const char> bytes;
  bool changes_attributes;
};

/// What the operations of ShareFs work with: the tables, and the way of a request into its share.
class ShareFs::Core {
 public:
  explicit Core(const Setup& setup);

  /// Does not write; or does what a read-only share refuses (EROFS); or keeps a file open for that.
  enum class Intent : std::uint8_t { kLook, kChange, kOpenToWrite };
  static constexpr Intent to_open(int flags) noexcept {
    if (may_write(flags)) return Intent::kOpenToWrite;
    return (flags & O_TRUNC) != 0 ? Intent::kChange : Intent::kLook;
  }
  static constexpr Intent to_create(int flags) noexcept {
    return may_write(flags) ? Intent::kOpenToWrite : Intent::kChange;
  }

  /// How a request belongs to its system call, which may be sent back where its share is to be native.
  enum class Comes : std::uint8_t {
    kOnItsWay,   ///< a look-up: perhaps in the midst of a walk
    kAtItsEnd,   ///< what the call is for, which only calls on paths do
    kByChance,   ///< calls on paths do it, and calls on descriptors
    kStats,      ///< the same, for attributes
    kNeverMind,  ///< not to be sent back
  };

  /// Lets a request into the share of `node` and answers what `operation(const Visit&)` returns, a Result, by its type.
  /// It is done now if the share is mounted, else on a pool thread after the mount, so it owns copies of what it needs; and
  /// again as as_of_now() says. What refuses the caller is answered here.
  template <typename Operation>
  void visit(Reply reply, NodeId node, Intent intent, Operation operation, Comes comes = Comes::kByChance) {
    KnownShare* const share = share_of(node);
    if (share == nullptr) return std::move(reply).error(ESTALE);
    const sys::Identity caller = reply.caller();
    if (is_to_walk_again(*share, node, caller.pid, comes)) return std::move(reply).error(ESTALE);
    if (const Result<> admitted = admit(share->policy(), caller, intent != Intent::kLook); !admitted) {
      return std::move(reply).error(admitted.error());
    }
    auto work = [this, node, intent, operation = std::move(operation)](const Visit& visit, Reply to) {
      if (intent == Intent::kOpenToWrite) note_writer(visit);
      answer(visit, std::move(to), node, as_of_now(visit.caller, [&] { return operation(visit); }));
    };
    if (std::optional<manager::Lease> lease = share->share().try_lease()) {
      return perform(*share, *std::move(lease), std::move(reply), work);
    }
    park(*share, std::move(reply), std::move(work));
  }

  /// Lets a request on something open do `work(const Visit&, Handle&, Reply)`, for which opening it was permission enough;
  /// it never waits for a mount.
  template <typename Work>
  void visit_open(Reply reply, NodeId node, std::uint64_t number, Work work) {
    const std::shared_ptr<Handle> handle = handles.find(number, node);
    if (handle == nullptr) return std::move(reply).error(EBADF);
    const Visit visit{*shares.find(handle->share), handle->lease, reply.caller()};
    work(visit, *handle, std::move(reply));
    handle->lease.share().note_answer();
  }

  /// The same of what is decided anew by who the caller is: `operation(const Visit&, const Handle&)`, as in visit().
  template <typename Operation>
  void visit_open_as_caller(Reply reply, NodeId node, std::uint64_t number, Intent intent, const Operation& operation) {
    visit_open(std::move(reply), node, number, [&](const Visit& visit, const Handle& handle, Reply to) {
      if (const Result<> admitted = admit(visit.share.policy(), visit.caller, intent != Intent::kLook); !admitted) {
        return std::move(to).error(admitted.error());
      }
      answer(visit, std::move(to), node, as_of_now(visit.caller, [&] { return operation(visit, handle); }));
    });
  }

  // What answers leaves the share first (Visit::leave).

  /// Answers an error of the real file system. A mount whose helper is dead is reported on the way.
  void refuse(const Visit& visit, Reply reply, const Error& error);
  /// Answers what was done for a request about `node`. What the kernel does not want any more is taken back: look-ups, and
  /// what was opened.
  template <typename T>
  void answer(const Visit& visit, Reply reply, NodeId node, const Result<T>& done) {
    if (!done) return refuse(visit, std::move(reply), done.error());
    visit.leave();
    if constexpr (std::is_void_v<T>) {
      std::move(reply).error(0);
    } else {
      tell(visit.share, std::move(reply), node, *done);
    }
  }

  /// The attributes of a share's root. Where the real one cannot be asked it is what was last known: that mounts nothing,
  /// and a name does not disappear because a server does.
  void answer_root(Reply reply, NodeId node);
  /// The same of a caller whom what was last known refuses: the share is mounted, and the real root decides.
  void ask_root(KnownShare& share, Reply reply, NodeId node);
  [[nodiscard]] bool may_ask_root(KnownShare& share) const;
  /// The same of an extended attribute of it; false when the share is mounted, and so is to be asked.
  bool answer_root_xattr(Reply& reply, NodeId node, std::string_view name, std::size_t size);
  [[nodiscard]] KnownShare* share_of(NodeId node) const {
    const std::optional<ShareIndex> index = nodes.share_of(node);
    return index ? shares.find(*index) : nullptr;
  }

  Result<Entry> look_up(const Visit& visit, NodeId parent, const char* name);

  /// As ShareFs's own.
  void take_over(std::vector<int>& left);
  void finish_take_over();

  /// How long the kernel may believe what it is told now of the root of a share.
  Seconds root_valid(KnownShare& share) const noexcept;
  void disbelieve_root(KnownShare& share) noexcept;

  manager::Manager& manager;
  std::atomic<Session*> session{nullptr};  ///< null: nobody can be told anything
  Requests* const requests;
  Passthrough* const passthrough;
  const bool outlived;  ///< there was another server before
  KnownShares shares;
  NodeTable nodes;
  HandleTable handles;
  LockTable locks;
  RealTree tree;
  SentBack sent_back;
  std::atomic<std::size_t> laying_count{0};  ///< of `laying`
  Mutex laying_mutex;
  std::set<ShareIndex> laying BERTH_GUARDED_BY(laying_mutex);
  LockWaiters waiters;  ///< last, for those who wait use the others

 private:
  using Work = UniqueFunction<void(const Visit&, Reply)>;

  template <typename W>
  void perform(KnownShare& share, manager::Lease lease, Reply reply, W& work) {
    const Visit visit{share, lease, reply.caller(), &lease, reply.umask()};
    if (const Result<> met = share.meet(lease); !met) return refuse(visit, std::move(reply), met.error());
    work(visit, std::move(reply));
    share.share().note_answer();
  }

  /// Does `operation`, and does it again where the caller was refused for what it was a moment ago: a thread may change its
  /// groups and capabilities, which are remembered.
  template <typename Operation>
  static auto as_of_now(const sys::Identity& caller, const Operation& operation) -> decltype(operation()) {
    auto done = operation();
    const int code = done ? 0 : done.error().code();
    if ((code != EACCES && code != EPERM) || !sys::look_again(caller)) return done;
    return operation();
  }

  void tell(const KnownShare& share, Reply reply, NodeId node, const Entry& entry);
  void tell(const KnownShare& share, Reply reply, NodeId node, const Opened& opened);
  void tell(const KnownShare& share, Reply reply, NodeId node, const RealTree::Created& created);
  void tell(const KnownShare& share, Reply reply, NodeId node, const struct statx& x);
  void tell(const KnownShare& share, Reply reply, NodeId node, const struct stat& attributes);
  void tell(const KnownShare& share, Reply reply, NodeId node, const struct statvfs& statistics);
  void tell(const KnownShare& share, Reply reply, NodeId node, const std::string& link_target);
  void tell(const KnownShare& share, Reply reply, NodeId node, const XattrBytes& xattr);
  void tell(const KnownShare& share, Reply reply, NodeId node, const Controlled& controlled);

  bool restore(const HandleTable::Left& left);
  void take_back(const Requests::Leftover& left);
  [[nodiscard]] std::vector<FileKey> made_by_the_dead(const std::vector<int>& left) const;

  std::vector<BackingId> unused_loans_;  ///< take_over() leaves them to finish_take_over()

  [[nodiscard]] bool is_laying(ShareIndex share) {
    if (laying_count == 0) return false;
    MutexLock lock(laying_mutex);
    return laying.contains(share);
  }
  [[nodiscard]] bool is_laid_meanwhile(const KnownShare& share);
  static void note_writer(const Visit& visit) noexcept;
  [[nodiscard]] bool is_to_walk_again(const KnownShare& share, NodeId node, pid_t thread, Comes comes);
  [[nodiscard]] bool is_sent_back(const KnownShare& share, pid_t thread, Comes comes, TimePoint now);
  void park(KnownShare& share, Reply reply, Work work);
  /// A request that has waited for a mount.
  struct Parked {
    KnownShare& share;
    Result<manager::Lease> lease;
    Reply reply;
    Work work;
    std::uint64_t unique;
    std::optional<PriorAttempt> prior;
  };
  void go_on(Parked parked);
  void finish_parked(Parked& parked) noexcept;
};

}  // namespace berth::fuse
