#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "fuse/callers/stale_retries.h"
#include "fuse/kept/kept_state.h"
#include "fuse/kept/requests.h"
#include "fuse/session/operations.h"
#include "fuse/session/passthrough.h"
#include "fuse/tables/handle_users.h"
#include "fuse/tables/node_pruner.h"
#include "fuse/tables/open_files.h"
#include "manager/engine/manager.h"

namespace berth::fuse {

/// The roots of shares and everything below them: requests in, system calls on the real file system out.
///
/// A request needs the share to be mounted. When it is, the request takes a lease and runs at once; when it is not, it
/// is parked with the manager and runs on a pool thread after the mount, or is answered with the mount's error. What is
/// open holds a lease of its own, so requests on open handles never wait.
///
/// The root of a share answers getattr from what was last known of it, so that listing the namespace mounts nothing.
///
/// Threading: any thread may call anything.
class Session;

class ShareFs final : public Operations {
 public:
  struct Setup {
    /// Must outlive this object, and call no callback of a lease after it is gone (stop it first).
    manager::Manager& manager;
    /// What outlives this, and what requests are noted in. Null: there will be no successor.
    KeptState* kept = nullptr;
    Requests* requests = nullptr;
    /// Most descriptors that are kept only to save finding directories again.
    std::size_t max_cached_descriptors = 8192;
    /// Of the files and directories that callers have open.
    OpenFiles::Limits open_files = {};
    /// Registers open files as backing files; must outlive this object. Null: all reading and writing comes here.
    Passthrough* passthrough = nullptr;
  };

  /// The process's umask must be 0: new files are made with the caller's (sys::WithUmask).
  explicit ShareFs(Setup setup);
  ~ShareFs() override;

  /// Takes over from a dead server. `inherited`: descriptors that it had opened and that were not taken over yet; those
  /// that are open files of shares are taken out. Before the first request. Does nothing if there was no other server.
  void take_over(std::vector<int>& inherited);
  /// The rest of it, when the connection is up again.
  void finish_take_over();

  /// The root directory of `share`, as a look-up answers it: one reference that the kernel gives back by forget().
  /// Asks no real file system and takes no long lock, so that a list of thousands is cheap. `listed`: with others, in a
  /// listing.
  /// Errors: ENOSPC when there are more shares than can be numbered.
  [[nodiscard]] Result<Entry> root_entry(const std::shared_ptr<manager::Share>& share, bool listed);
  /// How long the kernel may cache the attributes of the root of a share that is not mounted. It is notified when it is
  /// mounted.
  static constexpr std::chrono::seconds kIdleRootTtl{60};
  /// Whether the kernel has them, with a validity that lasts until then at least. It may have dropped them all the
  /// same.
  [[nodiscard]] bool is_root_cached(const manager::Share& share, TimePoint until) const noexcept;
  /// Takes back what root_entry() counted, when the kernel did not get it.
  void forget_root(const Entry& entry) noexcept { forget(entry.node, 1); }

  /// Whether `thread`, which asks about the name of `share`, has been sent back (StaleRetries) and is to wait until the
  /// name leads to the real mount.
  [[nodiscard]] bool waits_for_overmount(pid_t thread, const std::shared_ptr<manager::Share>& share);
  /// It goes on from there. False: by berth, and the share is being overmounted just now, so that it has to wait for
  /// that.
  [[nodiscard]] bool passes_name(pid_t thread, const manager::Share& share);
  /// Threads that have come into `share` through us a moment ago, and may be between the two walks of a system call.
  [[nodiscard]] std::vector<StaleRetries::Seen> walking_in(const manager::Share& share) const;
  /// Threads that were let go on from the name of `share` into its real mount, and are not known to have come there.
  [[nodiscard]] std::vector<StaleRetries::Seen> passed_in(const manager::Share& share) const;
  /// Whether a thread of which nothing is known may have come into a share just now.
  [[nodiscard]] bool has_unseen_callers() const;
  /// One of these was seen to be in no such call. False: it has asked for something meanwhile.
  bool has_ended(const manager::Share& share, const StaleRetries::Seen& thread);
  /// From now on, until the overmount is made or has failed, a caller that begins to walk into `share` is sent back to
  /// its name to wait there.
  void set_overmounting(const manager::Share& share, bool overmounting);
  /// Whether a program may have something there that an overmount of `share` would hide: the kernel knows a name in it,
  /// or its root may be watched (KnownShare).
  [[nodiscard]] bool may_hide(const manager::Share& share) const;
  void set_may_be_watched(const manager::Share& share, bool may_be);
  [[nodiscard]] bool is_in(NodeId node, const manager::Share& share) const;
  /// Whether what is read and written through berth of a file in `share` is what the kernel has of it in memory, so
  /// that a native user sees the same pages. `root`: of the mount. Errors: EOPNOTSUPP with the reason.
  [[nodiscard]] Result<> shows_same_pages(int root) const;

  /// The inode number of root_entry().
  [[nodiscard]] static ino_t root_inode(const manager::Share& share) noexcept;

  /// The processes that have something open in `share`, and those that wait for an answer of it, in no order. Bounded
  /// while it is made.
  [[nodiscard]] HandleUsers users_of(const manager::Share& share, const UsersWanted& wanted) const;

  /// The callers that wait for an answer of `share`, which is mounted, in a thread or for one.
  [[nodiscard]] Unanswered unanswered_in(const manager::Share& share) const;

  /// What is remembered for the kernel; with nothing open and everything forgotten all are 0.
  struct Counts {
    std::size_t nodes, handles, cached_descriptors;
  };
  [[nodiscard]] Counts counts() const;

  /// Notifies the kernel by `session`, which outlives the requests, of what it must not cache any more. Without one, no
  /// answer is cached for long.
  void serve(Session& session) noexcept;

  /// What was known of the root of `share` while it was not mounted must not be used any more
  /// (ManagerSetup::after_mount), or its policy has changed.
  void on_mounted(const manager::Share& share);

  /// Has the kernel drop what is not in use of a removed share (ManagerSetup::drop_unused). Without Linux 6.18 it does
  /// so when its memory runs short.
  void drop_unused(const manager::Share& share);
  /// Whether the kernel knows anything of it, or anything below its root (ManagerSetup::is_known).
  [[nodiscard]] bool is_known(const manager::Share& share, bool below) const;

  /// Has the number of nodes kept about `limit`, until what is answered is destroyed; before the first request.
  Result<std::unique_ptr<NodePruner>> keep_nodes_below(std::size_t limit, NodePruner::Drop drop);

  /// Closes every descriptor in `share` that no handle owns (ManagerSetup::before_unmount). `force`: answers the
  /// callers that are stuck in it or wait for it as well; else there is none inside, and those that wait are let in by
  /// the next mount.
  void before_unmount(manager::Share& share, int root, bool force);

  /// Null for what is answered from what is known of the root.
  [[nodiscard]] Lane* lane_of(NodeId node, std::uint32_t opcode) const override;
  void note_lost_pages(NodeId node) override;
  void lookup(Reply reply, NodeId parent, const char* name) override;
  void forget(NodeId node, std::uint64_t count) noexcept override;
  void getattr(Reply reply, NodeId node, const fuse_file_info* handle) override;
  void setattr(Reply reply, NodeId node, const struct stat& attributes, int to_set,
               const fuse_file_info* handle) override;
  void readlink(Reply reply, NodeId node) override;
  void mknod(Reply reply, NodeId parent, const char* name, mode_t mode, dev_t device) override;
  void mkdir(Reply reply, NodeId parent, const char* name, mode_t mode) override;
  void unlink(Reply reply, NodeId parent, const char* name) override;
  void rmdir(Reply reply, NodeId parent, const char* name) override;
  void symlink(Reply reply, const char* target, NodeId parent, const char* name) override;
  void rename(Reply reply, NodeId parent, const char* name, NodeId new_parent, const char* new_name,
              unsigned flags) override;
  void link(Reply reply, NodeId node, NodeId new_parent, const char* new_name) override;
  void open(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void create(Reply reply, NodeId parent, const char* name, mode_t mode, const fuse_file_info& handle) override;
  void create_nameless(Reply reply, NodeId parent, mode_t mode, const fuse_file_info& handle) override;
  void read(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) override;
  void write(Reply reply, NodeId node, std::span<const char> bytes, off_t offset,
             const fuse_file_info& handle) override;
  void flush(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void release(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void fsync(Reply reply, NodeId node, bool data_only, const fuse_file_info& handle) override;
  void opendir(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void readdir(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) override;
  void readdirplus(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) override;
  void releasedir(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void fsyncdir(Reply reply, NodeId node, bool data_only, const fuse_file_info& handle) override;
  void statfs(Reply reply, NodeId node) override;
  void access(Reply reply, NodeId node, int mask) override;
  void fallocate(Reply reply, NodeId node, int mode, off_t offset, off_t length, const fuse_file_info& handle) override;
  void lseek(Reply reply, NodeId node, off_t offset, int whence, const fuse_file_info& handle) override;
  void copy(Reply reply, const Position& from, const Position& to, std::size_t size) override;
  void ioctl(Reply reply, NodeId node, unsigned command, const fuse_file_info& handle, std::span<const char> bytes,
             std::size_t answer_size) override;
  void getlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range) override;
  void setlk(Reply reply, NodeId node, const fuse_file_info& handle, const struct flock& range, bool wait) override;
  void flock(Reply reply, NodeId node, const fuse_file_info& handle, int operation) override;
  void getxattr(Reply reply, NodeId node, const char* name, std::size_t size) override;
  void listxattr(Reply reply, NodeId node, std::size_t size) override;
  void setxattr(Reply reply, NodeId node, const char* name, std::span<const char> value, int flags) override;
  void removexattr(Reply reply, NodeId node, const char* name) override;

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace berth::fuse
