#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"

// The operations of ShareFs that change which names there are.
namespace berth::fuse {

void ShareFs::mknod(Reply reply, NodeId parent, const char* name, mode_t mode, dev_t device) {
  core_->visit(
      std::move(reply), parent, Core::Intent::kChange,
      [core = core_.get(), parent, name = std::string(name), mode, device](const Visit& visit) {
        return core->tree.make_node(visit, parent, name.c_str(), mode, device);
      },
      // bind(2) makes the name of a socket, and does not walk again.
      S_ISSOCK(mode) ? Core::Comes::kNeverMind : Core::Comes::kAtItsEnd);
}

void ShareFs::mkdir(Reply reply, NodeId parent, const char* name, mode_t mode) {
  core_->visit(
      std::move(reply), parent, Core::Intent::kChange,
      [core = core_.get(), parent, name = std::string(name), mode](const Visit& visit) {
        return core->tree.make_directory(visit, parent, name.c_str(), mode);
      },
      Core::Comes::kAtItsEnd);
}

void ShareFs::symlink(Reply reply, const char* target, NodeId parent, const char* name) {
  core_->visit(
      std::move(reply), parent, Core::Intent::kChange,
      [core = core_.get(), parent, name = std::string(name), target = std::string(target)](const Visit& visit) {
        return core->tree.make_symlink(visit, parent, name.c_str(), target.c_str());
      },
      Core::Comes::kAtItsEnd);
}

void ShareFs::unlink(Reply reply, NodeId parent, const char* name) {
  core_->visit(
      std::move(reply), parent, Core::Intent::kChange,
      [core = core_.get(), parent, name = std::string(name)](const Visit& visit) {
        return core->tree.remove(visit, parent, name.c_str(), 0);
      },
      Core::Comes::kAtItsEnd);
}

void ShareFs::rmdir(Reply reply, NodeId parent, const char* name) {
  core_->visit(
      std::move(reply), parent, Core::Intent::kChange,
      [core = core_.get(), parent, name = std::string(name)](const Visit& visit) {
        return core->tree.remove(visit, parent, name.c_str(), AT_REMOVEDIR);
      },
      Core::Comes::kAtItsEnd);
}

void ShareFs::rename(Reply reply, NodeId parent, const char* name, NodeId new_parent, const char* new_name,
                     unsigned flags) {
  if (core_->share_of(parent) != core_->share_of(new_parent)) return std::move(reply).error(EXDEV);
  core_->visit(
      std::move(reply), parent, Core::Intent::kChange,
      [core = core_.get(), parent, name = std::string(name), new_parent, new_name = std::string(new_name),
       flags](const Visit& visit) {
        return core->tree.rename(visit, parent, name.c_str(), new_parent, new_name.c_str(), flags);
      },
      Core::Comes::kAtItsEnd);
}

void ShareFs::link(Reply reply, NodeId node, NodeId new_parent, const char* new_name) {
  if (core_->share_of(node) != core_->share_of(new_parent)) return std::move(reply).error(EXDEV);
  core_->visit(
      std::move(reply), node, Core::Intent::kChange,
      [core = core_.get(), node, new_parent, new_name = std::string(new_name)](const Visit& visit) {
        return core->tree.make_link(visit, node, new_parent, new_name.c_str());
      },
      Core::Comes::kAtItsEnd);
}

}  // namespace berth::fuse
