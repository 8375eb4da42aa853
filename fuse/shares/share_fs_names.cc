#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"

// The operations of ShareFs that change which names there are.
namespace berth::fuse {

void ShareFs::mknod(Reply reply, NodeId parent, const char* name, mode_t mode, dev_t device) {
  core_->with_share(
      std::move(reply), parent, Core::Access::kModify,
      [core = core_.get(), parent, name = std::string(name), mode, device](const ShareRequest& request) {
        return core->real_files.make_node(request, parent, name.c_str(), mode, device);
      },
      // bind(2) makes the name of a socket, and does not walk again.
      S_ISSOCK(mode) ? Core::Origin::kNeverMind : Core::Origin::kAtItsEnd);
}

void ShareFs::mkdir(Reply reply, NodeId parent, const char* name, mode_t mode) {
  core_->with_share(
      std::move(reply), parent, Core::Access::kModify,
      [core = core_.get(), parent, name = std::string(name), mode](const ShareRequest& request) {
        return core->real_files.make_directory(request, parent, name.c_str(), mode);
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::symlink(Reply reply, const char* target, NodeId parent, const char* name) {
  core_->with_share(
      std::move(reply), parent, Core::Access::kModify,
      [core = core_.get(), parent, name = std::string(name),
       target = std::string(target)](const ShareRequest& request) {
        return core->real_files.make_symlink(request, parent, name.c_str(), target.c_str());
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::unlink(Reply reply, NodeId parent, const char* name) {
  core_->with_share(
      std::move(reply), parent, Core::Access::kModify,
      [core = core_.get(), parent, name = std::string(name)](const ShareRequest& request) {
        return core->real_files.remove(request, parent, name.c_str(), 0);
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::rmdir(Reply reply, NodeId parent, const char* name) {
  core_->with_share(
      std::move(reply), parent, Core::Access::kModify,
      [core = core_.get(), parent, name = std::string(name)](const ShareRequest& request) {
        return core->real_files.remove(request, parent, name.c_str(), AT_REMOVEDIR);
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::rename(Reply reply, NodeId parent, const char* name, NodeId new_parent, const char* new_name,
                     unsigned flags) {
  if (core_->share_of(parent) != core_->share_of(new_parent)) return std::move(reply).error(EXDEV);
  core_->with_share(
      std::move(reply), parent, Core::Access::kModify,
      [core = core_.get(), parent, name = std::string(name), new_parent, new_name = std::string(new_name),
       flags](const ShareRequest& request) {
        return core->real_files.rename(request, parent, name.c_str(), new_parent, new_name.c_str(), flags);
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::link(Reply reply, NodeId node, NodeId new_parent, const char* new_name) {
  if (core_->share_of(node) != core_->share_of(new_parent)) return std::move(reply).error(EXDEV);
  core_->with_share(
      std::move(reply), node, Core::Access::kModify,
      [core = core_.get(), node, new_parent, new_name = std::string(new_name)](const ShareRequest& request) {
        return core->real_files.make_link(request, node, new_parent, new_name.c_str());
      },
      Core::Origin::kAtItsEnd);
}

}  // namespace berth::fuse
