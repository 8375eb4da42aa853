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

#include "fuse/callers/stale_retries.h"
#include "fuse/files/real_files.h"
#include "fuse/files/share_request.h"
#include "fuse/shares/access_check.h"
#include "fuse/shares/lock_requests.h"
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
/// The output of ioctl(2).
struct Controlled {
  std::span<const char> bytes;
  bool changes_attributes;
};

/// What the operations of ShareFs work with: the tables, and the way of a request into its share.
class ShareFs::Core {
 public:
  explicit Core(const Setup& setup);

  /// Does not write; or does what a read-only share refuses (EROFS); or keeps a file open for that.
  enum class Access : std::uint8_t { kRead, kModify, kOpenForWriting };
  static constexpr Access to_open(int flags) noexcept {
    if (may_write(flags)) return Access::kOpenForWriting;
    return (flags & O_TRUNC) != 0 ? Access::kModify : Access::kRead;
  }
  static constexpr Access to_create(int flags) noexcept {
    return may_write(flags) ? Access::kOpenForWriting : Access::kModify;
  }

  /// How a request belongs to its system call, which may be sent back if its share is to become native.
  enum class Origin : std::uint8_t {
    kOnItsWay,   ///< a look-up: perhaps in the midst of a walk
    kAtItsEnd,   ///< the purpose of the call, which only calls on paths have
    kByChance,   ///< calls on paths send it, and calls on descriptors
    kStats,      ///< the same, for attributes
    kNeverMind,  ///< must not be sent back
  };

  /// Lets a request into the share of `node` and answers what `operation(const ShareRequest&)` returns, a Result, by
  /// its type. It is done now if the share is mounted, else on a pool thread after the mount, so it owns copies of what
  /// it needs; and again as in with_fresh_rights(). If the caller is refused, this answers.
  template <typename Operation>
  void with_share(Reply reply, NodeId node, Access access, Operation operation, Origin comes = Origin::kByChance) {
    KnownShare* const share = share_of(node);
    if (share == nullptr) return std::move(reply).error(ESTALE);
    const sys::Identity caller = reply.caller();
    if (must_retry_walk(*share, node, caller.pid, comes)) return std::move(reply).error(ESTALE);
    if (const Result<> allowed = check_access(share->policy(), caller, access != Access::kRead); !allowed) {
      return std::move(reply).error(allowed.error());
    }
    auto work = [this, node, access, operation = std::move(operation)](const ShareRequest& request, Reply& to) {
      if (access == Access::kOpenForWriting) note_writer(request);
      const auto done = with_fresh_rights(request.caller, [&] { return operation(request); });
      if (!done && may_be_done_again(done.error())) return Result<>(fail(done.error()));
      answer(request, std::move(to), node, done);
      return Result<>();
    };
    if (std::optional<manager::Lease> lease = share->share().try_lease()) {
      return perform(*share, *std::move(lease), std::move(reply), work);
    }
    park(*share, std::move(reply), std::move(work));
  }

  /// Lets a request on something open do `work(const ShareRequest&, Handle&, Reply)`, for which opening it was
  /// permission enough; it never waits for a mount.
  template <typename Work>
  void with_handle(Reply reply, NodeId node, std::uint64_t number, Work work) {
    const std::shared_ptr<Handle> handle = handles.find(number, node);
    if (handle == nullptr) return std::move(reply).error(EBADF);
    const ShareRequest request = request_of(*handle, reply);  // before the reply is moved
    act_for(request);
    work(request, *handle, std::move(reply));
    handle->lease.share().note_answer();
  }

  /// The same of what can be done again: `operation(const ShareRequest&, Handle&, Reply&) -> Result<>` takes the reply
  /// and answers, or returns an error. Where the mount of the handle is dead and the share's policy says so, the file
  /// is opened again in the next mount, and it is done there: what `keep()` answers is, which owns copies of what it
  /// needs.
  /// `again`: false: it cannot be done in another mount.
  template <typename Operation, typename Keep>
  void with_file_or_copy(Reply reply, NodeId node, std::uint64_t number, const Operation& operation, const Keep& keep,
                         bool again = true) {
    std::shared_ptr<Handle> handle = handles.find(number, node);
    if (handle == nullptr) return std::move(reply).error(EBADF);
    const ShareRequest request = request_of(*handle, reply);
    act_for(request);
    Result<> done = operation(request, *handle, reply);
    if (!done && done.error().code() == EACCES && !request.share.is_local()) {
      const sys::AsDaemon as_daemon;
      done = operation(request, *handle, reply);
    }
    handle->lease.share().note_answer();
    if (done) return;
    if (!again || !is_to_be_reopened(request, *handle, done.error())) {
      return reply_error(request, std::move(reply), done.error());
    }
    look_whether_lost(request);
    park(request.share, std::move(reply),
         [this, handle = std::move(handle), kept = keep()](const ShareRequest& next, Reply& to) mutable -> Result<> {
           TRY_VOID(real_files.reopen(next, *handle));
           act_for(next);
           return kept(next, *handle, to);
         });
  }
  /// The same where `operation` owns all that it needs.
  template <typename Operation>
  void with_file(Reply reply, NodeId node, std::uint64_t number, const Operation& operation, bool again = true) {
    with_file_or_copy(
        std::move(reply), node, number, operation, [&operation] { return operation; }, again);
  }
  /// Whether a request on `handle` that met `error` is to be done in the next mount.
  [[nodiscard]] bool is_to_be_reopened(const ShareRequest& request, const Handle& handle,
                                       const Error& error) const noexcept;

  /// The same for an operation that is decided anew by the caller's identity: `operation(const ShareRequest&,
  /// Handle&)`, as with_share().
  template <typename Operation>
  void with_handle_as_caller(Reply reply, NodeId node, std::uint64_t number, Access access,
                             const Operation& operation) {
    with_handle(std::move(reply), node, number, [&](const ShareRequest& request, Handle& handle, Reply to) {
      if (const Result<> allowed = check_access(request.share.policy(), request.caller, access != Access::kRead);
          !allowed) {
        return std::move(to).error(allowed.error());
      }
      answer(request, std::move(to), node,
             with_fresh_rights(request.caller, [&] { return operation(request, handle); }));
    });
  }

  /// A server elsewhere is asked as the caller also about what is open: it answers each request by its sender
  /// (GETATTR of NFS with Kerberos), while the kernel reads and writes with the rights that the file was opened with.
  /// These are enough: where the server refuses the caller, or the caller has no user id here, the daemon asks.
  static void act_for(const ShareRequest& request) noexcept {
    if (!request.share.is_local() && !request.assume_caller()) sys::assume_daemon();
  }

  // The code that answers leaves the share first (ShareRequest::release_lease).

  /// Reports the mount that a request is in, if its root says that it is dead, and answers whether it does. After an
  /// error that says so of a file.
  bool look_whether_lost(const ShareRequest& request);
  /// Answers an error of the real file system. A mount whose helper is dead is reported on the way.
  void reply_error(const ShareRequest& request, Reply reply, const Error& error);
  /// Answers a request for a lock with `code`, or, where it may wait and that is EAGAIN, has it wait.
  void finish_lock(Reply reply, ShareIndex share, int code, bool wait, LockWaiters::Try attempt,
                   LockWaiters::Undo undo);
  /// Look-ups that were counted for an answer that its caller does not get.
  void take_back(std::span<const NodeId> looked_up) noexcept;
  /// Answers with the result of a request about `node`. If the kernel does not want it any more, its effects are
  /// undone: look-ups, and what was opened.
  template <typename T>
  void answer(const ShareRequest& request, Reply reply, NodeId node, const Result<T>& done) {
    if (!done) return reply_error(request, std::move(reply), done.error());
    request.release_lease();
    if constexpr (std::is_void_v<T>) {
      std::move(reply).error(0);
    } else {
      reply_with(request.share, std::move(reply), node, *done);
    }
  }

  void reply_attributes(Reply reply, NodeId node, const struct statx& x) {
    reply_with(*share_of(node), std::move(reply), node, x);
  }

  /// The attributes of a share's root. If the real root cannot be asked, they are the last known ones: that mounts
  /// nothing, and a name does not disappear because a server does.
  void answer_root(Reply reply, NodeId node);
  /// The same for a caller that the last known attributes refuse: the share is mounted, and the real root decides.
  void ask_root(KnownShare& share, Reply reply, NodeId node);
  [[nodiscard]] bool may_ask_root(KnownShare& share) const;
  /// The same for an extended attribute of it; false when the share is mounted, and so must be asked.
  bool answer_root_xattr(Reply& reply, NodeId node, std::string_view name, std::size_t size);
  [[nodiscard]] KnownShare* share_of(NodeId node) const {
    const std::optional<ShareIndex> index = nodes.share_of(node);
    return index ? shares.find(*index) : nullptr;
  }

  Result<Entry> look_up(const ShareRequest& request, NodeId parent, const char* name);

  /// Whether it is being overmounted now.
  [[nodiscard]] bool is_overmounting(ShareIndex share) {
    if (overmounting_count == 0) return false;
    MutexLock lock(overmounting_mutex);
    return overmounting.contains(share);
  }

  /// As ShareFs's own.
  void take_over(std::vector<int>& inherited);
  void finish_take_over();

  /// How long the kernel may believe what it is told now of the root of a share.
  Seconds root_ttl(KnownShare& share, bool listed = false) const noexcept;
  void invalidate_root(KnownShare& share) noexcept;

  manager::Manager& manager;
  std::atomic<Session*> session{nullptr};  ///< null: the kernel cannot be notified
  Requests* const requests;
  Passthrough* const passthrough;
  const bool has_predecessor;      ///< there was another server before
  std::atomic<bool> prunes{true};  ///< the kernel can be asked to drop nodes (Session::prune)
  KnownShares shares;
  NodeTable nodes;
  HandleTable handles;
  LockTable locks;
  RealFiles real_files;
  StaleRetries stale_retries;
  std::atomic<std::size_t> overmounting_count{0};  ///< of `overmounting`
  std::atomic<Duration::rep> unseen_at{0};         ///< when one came last that cannot be known (TimePoint)
  Mutex overmounting_mutex;
  std::set<ShareIndex> overmounting BERTH_GUARDED_BY(overmounting_mutex);
  LockRequests record_locks, file_locks;
  LockWaiters waiters;  ///< last, because waiting requests use the others
 private:
  /// What a request does in its share. It takes the reply and answers; or it answers nothing, and returns an error that
  /// perform() deals with.
  using Work = UniqueFunction<Result<>(const ShareRequest&, Reply&)>;

  [[nodiscard]] ShareRequest request_of(const Handle& handle, const Reply& reply) const {
    return ShareRequest{*shares.find(handle.share), handle.lease, reply.caller(), nullptr, 0, handle.mount_generation};
  }

  /// Does `work`; where its mount is dead, in the next one, as the share's policy says. `deaths`: of mounts that it was
  /// in.
  template <typename W>
  void perform(KnownShare& share, manager::Lease lease, Reply reply, W& work, unsigned deaths = 0) {
    const ShareRequest request{share, lease, reply.caller(), &lease, reply.umask()};
    Result<> done = share.on_mounted_root(lease);
    if (done) {
      done = work(request, reply);
      share.share().note_answer();
    }
    if (done) return;
    if (deaths == kMostDeaths || !may_be_done_again(done.error()) || !look_whether_lost(request)) {
      return reply_error(request, std::move(reply), done.error());
    }
    request.release_lease();
    park(share, std::move(reply), std::move(work), deaths + 1);
  }
  /// A helper that dies of a request is not started for it for ever.
  static constexpr unsigned kMostDeaths = 5;
  /// Whether a request that met `error` is to be done again if its mount is dead.
  [[nodiscard]] static bool may_be_done_again(const Error& error) noexcept;

  /// Does `operation`, and does it again where the caller was refused with cached rights: a thread may change its
  /// groups and capabilities, which are cached.
  template <typename Operation>
  static auto with_fresh_rights(const sys::Identity& caller, const Operation& operation) -> decltype(operation()) {
    auto done = operation();
    const int code = done ? 0 : done.error().code();
    if ((code != EACCES && code != EPERM) || !sys::refresh_rights(caller)) return done;
    return operation();
  }

  void reply_with(const KnownShare& share, Reply reply, NodeId node, const Entry& entry);
  void reply_with(const KnownShare& share, Reply reply, NodeId node, const Opened& opened);
  void reply_with(const KnownShare& share, Reply reply, NodeId node, const RealFiles::Created& created);
  void reply_with(const KnownShare& share, Reply reply, NodeId node, const struct statx& x);
  void reply_with(const KnownShare& share, Reply reply, NodeId node, const struct stat& attributes);
  void reply_with(const KnownShare& share, Reply reply, NodeId node, const struct statvfs& statistics);
  void reply_with(const KnownShare& share, Reply reply, NodeId node, const std::string& link_target);
  void reply_with(const KnownShare& share, Reply reply, NodeId node, const XattrBytes& xattr);
  void reply_with(const KnownShare& share, Reply reply, NodeId node, const Controlled& controlled);

  bool take_over(const HandleTable::Inherited& inherited);
  void undo(const Requests::Interrupted& request);
  [[nodiscard]] std::vector<FileKey> created_by_predecessor(const std::vector<int>& inherited) const;

  std::vector<BackingId> unused_backings_;  ///< take_over() leaves them to finish_take_over()

  static void note_writer(const ShareRequest& request) noexcept;
  [[nodiscard]] bool may_send_back(const KnownShare& share, pid_t thread, TimePoint now);
  [[nodiscard]] bool must_retry_walk(KnownShare& share, NodeId node, pid_t thread, Origin comes);
  [[nodiscard]] bool is_answered_stale(KnownShare& share, pid_t thread, Origin comes, TimePoint now);
  [[nodiscard]] bool is_sent_back_from_root(KnownShare& share, pid_t thread);
  bool send_back(KnownShare& share, pid_t thread, TimePoint now);
  void note_walk(const KnownShare& share, pid_t thread);
  void note_stale(KnownShare& share, pid_t thread);
  void park(KnownShare& share, Reply reply, Work work, unsigned deaths = 0);
  /// A request that has waited for a mount.
  struct Parked {
    KnownShare& share;
    Result<manager::Lease> lease;
    Reply reply;
    Work work;
    std::uint64_t unique;  ///< its number in its record
    std::optional<FirstAttempt> first_attempt;
    unsigned deaths;
  };
  /// `waiting`: the request as its lane knows it.
  void go_on(Parked parked, Lane::Waiting waiting);
  void finish_parked(Parked& parked) noexcept;
};

}  // namespace berth::fuse
