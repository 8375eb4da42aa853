#pragma once

#include <atomic>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "fuse/admission.h"
#include "fuse/handle_table.h"
#include "fuse/known_shares.h"
#include "fuse/listers.h"
#include "fuse/lock_table.h"
#include "fuse/lock_waiters.h"
#include "fuse/node_table.h"
#include "fuse/real_tree.h"
#include "fuse/share_fs.h"
#include "fuse/visit.h"
#include "src/base/unique_function.h"

namespace berth::fuse {

/// What the operations of ShareFs work with: the tables, and the way of a request into its share.
class ShareFs::Core {
 public:
  explicit Core(const Setup& setup);

  /// Does not write; or does what a read-only share refuses (EROFS).
  enum class Intent : bool { kLook, kChange };

  /// Lets a request into the share of `node`: `work(const Visit&, Reply)` is called now if it is mounted, else on a pool
  /// thread after the mount, so it owns copies of what it needs. What refuses the caller is answered here.
  template <typename Work>
  void visit(Reply reply, NodeId node, Intent intent, Work work) {
    KnownShare* const share = share_of(node);
    if (share == nullptr) return std::move(reply).error(ESTALE);
    const sys::Identity caller = reply.caller();
    if (const Result<> admitted = admit(share->policy(), caller, intent == Intent::kChange); !admitted) {
      return std::move(reply).error(admitted.error());
    }
    if (std::optional<manager::Lease> lease = share->share().try_lease()) {
      return perform(*share, *std::move(lease), std::move(reply), work);
    }
    park(*share, std::move(reply), std::move(work));
  }

  /// Lets a request on something open do `work(const Visit&, Handle&, Reply)`; it never waits for a mount.
  template <typename Work>
  void visit_open(Reply reply, NodeId node, std::uint64_t number, Work work) {
    const std::shared_ptr<Handle> handle = handles.find(number, node);
    if (handle == nullptr) return std::move(reply).error(EBADF);
    const Visit visit{*shares.find(handle->share), handle->lease, reply.caller()};
    work(visit, *handle, std::move(reply));
  }

  // What answers leaves the share first (Visit::leave).

  /// Answers an error of the real file system. A mount whose helper is dead is reported on the way.
  void refuse(const Visit& visit, Reply reply, const Error& error);
  /// Answers an entry, and takes its look-up back if the kernel does not want it any more. An error is refused.
  void answer(const Visit& visit, Reply reply, const Result<Entry>& entry);
  void answer(const Visit& visit, Reply reply, const Result<>& result);
  /// Answers what was opened, and closes it again if the kernel does not want it any more.
  void answer_opened(const Visit& visit, Reply reply, NodeId node, const Result<Opened>& opened);

  void answer_attributes(const KnownShare& share, Reply reply, const struct statx& x) const;
  /// The same of what was created, which has a look-up as well.
  void answer_created(const Visit& visit, Reply reply, const Result<RealTree::Created>& created);

  /// The attributes of a share's root. Where the real one cannot be asked it is what was last known: that mounts nothing,
  /// and a name does not disappear because a server does.
  void answer_root(Reply reply, NodeId node);
  /// The same of an extended attribute of it; false when the share is mounted, and so is to be asked.
  bool answer_root_xattr(Reply& reply, NodeId node, std::string_view name, std::size_t size);
  /// Whether an access list that an idle share's root does not have may be said to be one that it cannot have.
  [[nodiscard]] bool may_say_unsupported(std::string_view list, const sys::Identity& caller) const;

  /// KnownShare::meet(), and whether any share's root ever had an access list.
  Result<> meet(KnownShare& share, const manager::Lease& lease) {
    TRY_VOID(share.meet(lease));
    if (share.root_has_list() && !list_seen_.load(std::memory_order_relaxed)) list_seen_ = true;
    return {};
  }

  [[nodiscard]] KnownShare* share_of(NodeId node) const {
    const std::optional<ShareIndex> index = nodes.share_of(node);
    return index ? shares.find(*index) : nullptr;
  }

  /// As ShareFs's own.
  void take_over(std::vector<int>& left);
  void finish_take_over();

  /// How long the kernel may believe what was known of the root of a share that is not mounted: it is told when it is.
  [[nodiscard]] Seconds idle_root_valid(const KnownShare& share) const noexcept;
  void disbelieve_root(const KnownShare& share) noexcept;

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
  Listers listers;
  LockWaiters waiters;  ///< last, for those who wait use the others

 private:
  using Work = UniqueFunction<void(const Visit&, Reply)>;

  template <typename W>
  void perform(KnownShare& share, manager::Lease lease, Reply reply, W& work) {
    const Visit visit{share, lease, reply.caller(), &lease, reply.umask()};
    if (const Result<> met = meet(share, lease); !met) return refuse(visit, std::move(reply), met.error());
    work(visit, std::move(reply));
  }
  bool restore(const HandleTable::Left& left);
  void take_back(const Requests::Leftover& left);
  [[nodiscard]] std::vector<FileKey> made_by_the_dead(const std::vector<int>& left) const;

  std::atomic<bool> list_seen_{false};
  std::vector<BackingId> unused_loans_;  ///< take_over() leaves them to finish_take_over()

  void park(KnownShare& share, Reply reply, Work work);
  void finish_parked(KnownShare& share, Result<manager::Lease> lease, Reply reply, Work& work) noexcept;
};

}  // namespace berth::fuse
