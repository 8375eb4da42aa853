#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuse/kept/kept_state.h"
#include "fuse/session/operations.h"
#include "fuse/session/parked_reply.h"
#include "fuse/session/session.h"
#include "fuse/shares/share_fs.h"
#include "manager/engine/manager.h"

namespace berth::fuse {

/// The root of the namespace and the plain directories above shares (`home` of the share `home/alice`), made from the
/// manager's directory alone: nothing here asks a real file system or mounts anything.
///
/// The namespace cannot be changed through the namespace: what would change it is EPERM (as in Operations). For callers
/// that are not root, the kernel answers EACCES by itself.
///
/// Threading: any thread may call anything.
class Namespace final : public Operations {
 public:
  struct Setup {
    manager::Manager& manager;  ///< must outlive this object
    ShareFs& shares;            ///< must outlive this object
    /// The entry of `.berth`, counted as a look-up; empty: there is no control tree.
    std::function<Entry()> control_root;
    /// The attributes in it, counting nothing.
    std::function<struct stat()> control_attributes;
    /// Outlives this, and keeps which directory has which node for a successor. Null: there will be none.
    NameLog* directories = nullptr;
    std::uint32_t servers = 1;  ///< how many have served this namespace, this one included
    unsigned inode_bits = 64;   ///< how large the inode numbers of all that is in it may be: 32 or 64 bits
    /// How long the kernel may cache that a share or a directory is there: for good, because forget_names()
    /// notifies it. If the kernel asked about a name again and got no answer, what is mounted on it would be lost
    /// (d_invalidate()).
    Seconds name_ttl = 10.0 * 365 * 24 * 3600;
    /// How long it may cache that a name is not there.
    Seconds negative_ttl = 1;
  };
  explicit Namespace(Setup setup);
  ~Namespace() override;

  /// These names lead elsewhere now, or are there for the first time: the kernel is told
  /// (ManagerSetup::on_catalog_change). May block, though not for a share: look-ups that wait at a name go on by berth.
  void forget_names(const std::vector<std::string>& names, Session& session);

  void lookup(Reply reply, NodeId parent, const char* name) override;
  void forget(NodeId node, std::uint64_t count) noexcept override;
  void getattr(Reply reply, NodeId node, const fuse_file_info* handle) override;
  void opendir(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void readdir(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) override;
  void readdirplus(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) override;
  void releasedir(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void fsyncdir(Reply reply, NodeId node, bool data_only, const fuse_file_info& handle) override;

 private:
  class Core;
  /// A look-up that waits, and its number among those that forget_names() ends.
  struct Wait {
    std::shared_ptr<ParkedReply> parked;
    std::uint64_t number;
  };
  void answer(Reply reply, const std::string& prefix, const char* name);
  /// A name that a template knows: answered when there is a share, or when it is known that there is none.
  void look_up_key(Reply reply, const std::string& prefix, const std::string& name, const manager::ShareSpec& pattern);
  void look_up_share(Reply reply, const std::string& prefix, const char* name,
                     const std::shared_ptr<manager::Share>& share);
  /// Opens a directory when its keys are listed.
  void browse(Reply reply, const std::string& prefix);
  /// Answers a look-up of the share's name, which begins at `name_at` in `path`, when an attempt to overmount it has
  /// ended.
  void wait_at_name(const Wait& wait, pid_t thread, const std::shared_ptr<manager::Share>& share,
                    const std::string& path, std::size_t name_at, int waits);

  std::unique_ptr<Core> core_;
};

}  // namespace berth::fuse
