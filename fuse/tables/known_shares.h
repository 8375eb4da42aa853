#pragma once

#include <linux/stat.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "fuse/kept/kept_state.h"
#include "fuse/session/lane.h"
#include "fuse/session/reply.h"
#include "fuse/tables/inode_number.h"
#include "fuse/tables/node_table.h"
#include "manager/engine/manager.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::fuse {

/// A share that the kernel has heard of: what its nodes have in common, and what is known of its root directory.
///
/// Threading: any thread may call anything.
class KnownShare {
 public:
  KnownShare(ShareIndex index, std::shared_ptr<manager::Share> share) noexcept;
  ~KnownShare();
  KnownShare(const KnownShare&) = delete;
  KnownShare& operator=(const KnownShare&) = delete;

  [[nodiscard]] ShareIndex index() const noexcept { return index_; }
  /// A slot is of one share for as long as a server lives.
  [[nodiscard]] std::uint32_t slot() const noexcept { return slot_of(index_); }
  [[nodiscard]] manager::Share& share() const noexcept { return *share_; }
  [[nodiscard]] std::shared_ptr<manager::Share> shared() const noexcept { return share_; }
  [[nodiscard]] const manager::SharePolicy& policy() const noexcept { return share_->spec().policy(); }
  [[nodiscard]] const InodeNumbers& numbers() const noexcept { return numbers_; }
  /// Whether a file keeps its inode number over unmounts. FUSE servers mostly make them up for one mount, and so do
  /// some file systems of the kernel.
  [[nodiscard]] bool keeps_inodes() const noexcept { return keeps_inodes_; }
  /// How long the kernel may cache names and attributes.
  [[nodiscard]] Seconds attr_ttl() const noexcept;
  /// The same for the attributes of a file of that mode. Set-id bits may end with any write, which the kernel would not
  /// see, so they must not be cached at all.
  [[nodiscard]] Seconds attr_ttl(mode_t mode) const noexcept {
    return S_ISREG(mode) && (mode & (S_ISUID | S_ISGID)) != 0 ? 0 : attr_ttl();
  }
  /// Whether files on the device of the share's root are this machine's own (sys::is_local).
  [[nodiscard]] bool is_local() const noexcept { return local_.load(std::memory_order_relaxed); }

  /// Reads the real root, once a mount; to be called before anything else is done under a lease.
  Result<> on_mounted_root(const manager::Lease& lease);

  /// The identity of the file that a statx of the current mount is of.
  [[nodiscard]] RealFile file_of(const struct statx& x) const noexcept;
  /// The same attributes as the kernel gets them: with the inode number of the namespace.
  [[nodiscard]] struct stat attributes_of(const struct statx& x) const noexcept;
  /// The inode number of an entry of a directory on `device` (RealFile::device).
  [[nodiscard]] ino_t number_of(std::uint32_t device, std::uint64_t inode) const noexcept;

  /// The root's attributes as last known; before the first mount those of the policy.
  [[nodiscard]] struct stat root_attributes() const noexcept;
  /// The attributes that decide permissions on the root, as last known.
  struct RootPermissions {
    mode_t mode = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<char> access_list;
    friend bool operator==(const RootPermissions&, const RootPermissions&) = default;
  };
  [[nodiscard]] RootPermissions root_permissions() const;
  /// When the kernel last got them, to be cached until the share is mounted; nothing: never, or it has forgotten them.
  [[nodiscard]] std::optional<TimePoint> root_sent() const noexcept;
  void note_root_sent(std::optional<TimePoint> now) noexcept;
  /// Since when the kernel believes no attributes of the root, so that whatever walks through it asks; may be to come.
  [[nodiscard]] TimePoint root_asked_since() const noexcept { return TimePoint(Duration(root_asked_since_)); }
  void note_root_asked(TimePoint since) noexcept { root_asked_since_ = since.time_since_epoch().count(); }
  /// Whether a program may watch the root, as far as its requests tell: it asked for the root's attributes to watch it,
  /// or had no need to ask.
  [[nodiscard]] bool may_be_watched() const noexcept { return may_be_watched_; }
  void set_may_be_watched(bool may_be) noexcept { may_be_watched_ = may_be; }
  /// Notes what the real root has just answered.
  void remember_root(const struct statx& x) noexcept;
  /// The root's access control list when the root was last read; empty: none. `name`: of the attribute.
  [[nodiscard]] std::vector<char> root_access_list(std::string_view name) const;
  /// Whether its file system has access lists at all, as far as is known.
  [[nodiscard]] bool has_access_lists() const noexcept { return lists_.load(std::memory_order_relaxed); }
  /// Look-ups of the root that the kernel counts from now on, and that it has given back.
  void count_root_lookup() noexcept {
    ++root_lookups_;
    is_root_held_.store(true, std::memory_order_release);
  }
  void forget_root_lookups(std::uint64_t count) noexcept;
  /// Whether the kernel was told of it by this server, and has not given it back.
  [[nodiscard]] bool is_root_looked_up() const noexcept { return root_lookups_ > 0; }
  /// Whether the kernel may know the root. Of what a dead server has counted only the end is known.
  [[nodiscard]] bool is_root_held() const noexcept { return is_root_held_.load(std::memory_order_acquire); }
  /// The requests in it.
  [[nodiscard]] Lane& lane();
  /// Reads the real root a last time, without asking a server. `root`: a descriptor of it.
  void release_root(int root) noexcept;
  /// When that was last; long ago where it never was.
  [[nodiscard]] TimePoint let_go_at() const noexcept { return TimePoint(std::chrono::seconds(let_go_at_)); }

 private:
  struct Root {
    struct stat attributes {};                    ///< as the kernel gets them
    std::vector<char> access_list, default_list;  ///< as getxattr(2) has them
    std::uint32_t generation = 0;
  };

  const std::shared_ptr<manager::Share> share_;
  const InodeNumbers numbers_;
  const ShareIndex index_;
  const bool keeps_inodes_;

  std::atomic<std::int64_t> root_lookups_{0};
  std::atomic<bool> is_root_held_{true};
  std::atomic<bool> may_be_watched_{false};
  std::atomic<Duration::rep> root_asked_since_{0};  ///< of TimePoint
  std::atomic<std::uint32_t> let_go_at_{0};         ///< in seconds of the monotonic clock
  std::atomic<std::uint32_t> root_told_{0};         ///< in seconds of the monotonic clock, from 1 on; 0: not
  // Of the mount whose generation is root_generation_; stored before it. There may be thousands of shares: no gaps.
  std::atomic<bool> local_{false}, lists_{true};
  std::atomic<std::uint32_t> met_{0};
  std::atomic<std::uint32_t> root_device_{0};
  std::atomic<std::uint64_t> root_inode_{0};

  std::atomic<Lane*> lane_{nullptr};  ///< owned; null: no request had to be counted

  mutable Mutex mutex_;
  std::unique_ptr<Root> root_ BERTH_GUARDED_BY(mutex_);  ///< null: never mounted
};

/// The shares that the kernel has heard of, by the index that their nodes carry. None is ever taken out: any thread may
/// use one. The slots of those that are gone are free for the next server, which has none of these threads.
///
/// Threading: any thread may call anything; finding by index takes no lock.
class KnownShares {
 public:
  static constexpr std::size_t kMost = ShareSlots::kMost;  ///< of one server
  /// `slots`: outlives this, and keeps which share has which slot for a successor. Null: there will be none.
  explicit KnownShares(ShareSlots* slots = nullptr);
  ~KnownShares();
  KnownShares(const KnownShares&) = delete;
  KnownShares& operator=(const KnownShares&) = delete;

  /// Gives the shares of a dead server their indices again. `shares`: by their incarnations. One that is not among them
  /// any more cannot be found.
  void take_over(const std::map<std::uint64_t, std::shared_ptr<manager::Share>>& shares);
  /// After that: slots of shares that are gone are used again, but for those that something still has the index of.
  void free_slots(const std::function<bool(ShareIndex)>& is_used);

  /// Errors: ENOSPC when there are as many as can be numbered.
  Result<KnownShare*> add(const std::shared_ptr<manager::Share>& share);
  /// All of them.
  [[nodiscard]] std::vector<KnownShare*> all() const;
  /// Null: there is none.
  [[nodiscard]] KnownShare* find(ShareIndex index) const noexcept;
  [[nodiscard]] KnownShare* find(const manager::Share& share) const;

 private:
  void make_room(std::uint32_t slot) BERTH_REQUIRES(mutex_);
  KnownShare* put(std::unique_ptr<KnownShare> known) noexcept BERTH_REQUIRES(mutex_);
  [[nodiscard]] KnownShare* find_locked(const manager::Share& share) const BERTH_REQUIRES(mutex_);

  static constexpr std::size_t kBlockSize = 64;
  using Block = std::array<std::atomic<KnownShare*>, kBlockSize>;  ///< owns them; null: nothing has the slot

  ShareSlots* const slots_;
  std::array<std::atomic<Block*>, kMost / kBlockSize> blocks_{};

  mutable Mutex mutex_;
  std::uint32_t end_ BERTH_GUARDED_BY(mutex_) = 0;              ///< as ShareSlots::end
  std::deque<ShareIndex> gone_ BERTH_GUARDED_BY(mutex_);        ///< of shares that a dead server knew
  std::deque<ShareIndex> free_ BERTH_GUARDED_BY(mutex_);        ///< for shares to come
  std::vector<KnownShare*> by_share_ BERTH_GUARDED_BY(mutex_);  ///< in the order of their shares' addresses
};

}  // namespace berth::fuse
