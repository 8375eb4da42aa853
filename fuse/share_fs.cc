#include "fuse/share_fs.h"

#include <fcntl.h>

#include "fuse/share_fs_core.h"
#include "src/sys/file.h"

namespace berth::fuse {

ShareFs::ShareFs(Setup setup) : core_(std::make_unique<Core>(setup)) {}
ShareFs::~ShareFs() = default;

Entry ShareFs::root_entry(const std::shared_ptr<manager::Share>& share) {
  const Result<KnownShare*> known = core_->shares.add(share);
  if (!known) return {};
  const bool is_mounted = !share->gate().closed();
  return {.node = NodeTable::root_id((*known)->index()),
          .attributes = (*known)->root_attributes(),
          .attributes_valid = is_mounted ? (*known)->attributes_valid() : core_->idle_root_valid(**known),
          .entry_valid = (*known)->attributes_valid()};
}

Listers& ShareFs::listers() noexcept { return core_->listers; }

void ShareFs::serve(Session& session) noexcept { core_->session = &session; }

void ShareFs::on_mounted(const manager::Share& share) {
  const KnownShare* const known = core_->shares.find(share);
  if (known != nullptr) core_->disbelieve_root(*known);
}

ino_t ShareFs::root_inode(const manager::Share& share) noexcept { return InodeNumbers(share.name()).root(); }

std::vector<ShareFs::User> ShareFs::users_of(const manager::Share& share) const {
  std::vector<User> users;
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return users;
  for (const auto& handle : core_->handles.of_share(known->index())) {
    users.push_back({handle->pid, handle->uid, handle->directory, core_->nodes.path_of(handle->node)});
  }
  return users;
}

ShareFs::Counts ShareFs::counts() const {
  const NodeTable::Counts nodes = core_->nodes.counts();
  return {nodes.nodes, core_->handles.size(), nodes.descriptors};
}

Result<std::unique_ptr<NodePruner>> ShareFs::keep_nodes_below(std::size_t limit, NodePruner::Drop drop) {
  return NodePruner::start(core_->nodes, limit, std::move(drop));
}

void ShareFs::let_go(manager::Share& share) {
  KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return;
  core_->nodes.drop_descriptors(known->index());
  known->let_go();
}

void ShareFs::lookup(Reply reply, NodeId parent, const char* name) {
  core_->visit(std::move(reply), parent, Core::Intent::kLook,
               [core = core_.get(), parent, name = std::string(name)](const Visit& visit, Reply to) {
                 core->answer(visit, std::move(to),
                              visit.as_of_now([&] { return core->tree.look_up(visit, parent, name.c_str()); }));
               });
}

void ShareFs::forget(NodeId node, std::uint64_t count) noexcept { core_->nodes.forget(node, count); }

void ShareFs::getattr(Reply reply, NodeId node, const fuse_file_info* handle) {
  const auto tell = [core = core_.get(), node](const Visit& visit, Reply to) {
    const Result<struct statx> x = core->tree.attributes(visit, node);
    if (!x) return core->refuse(visit, std::move(to), x.error());
    visit.leave();
    core->answer_attributes(visit.share, std::move(to), *x);
  };
  if (handle != nullptr) {
    return core_->visit_open(std::move(reply), node, handle->fh, [this](const Visit& visit, Handle& open, Reply to) {
      const Result<struct statx> x = sys::stat_at(open.fd(), "", kAllAttributes);
      if (!x) return std::move(to).error(x.error());
      core_->answer_attributes(visit.share, std::move(to), *x);
    });
  }
  if (NodeTable::is_root(node)) return core_->answer_root(std::move(reply), node);
  core_->visit(std::move(reply), node, Core::Intent::kLook, tell);
}

void ShareFs::setattr(Reply reply, NodeId node, const struct stat& attributes, int to_set,
                      const fuse_file_info* handle) {
  const auto set = [core = core_.get(), node, attributes, to_set](const Visit& visit, const Handle* open, Reply to) {
    const Result<struct stat> after =
        visit.as_of_now([&] { return core->tree.set_attributes(visit, node, attributes, to_set, open); });
    if (!after) return core->refuse(visit, std::move(to), after.error());
    visit.leave();
    std::move(to).attributes(*after, visit.share.attributes_valid(after->st_mode));
  };
  if (handle != nullptr) {
    return core_->visit_open(std::move(reply), node, handle->fh, [&set](const Visit& visit, Handle& open, Reply to) {
      if (const Result<> admitted = admit(visit.share.policy(), visit.caller, true); !admitted) {
        return std::move(to).error(admitted.error());
      }
      set(visit, &open, std::move(to));
    });
  }
  core_->visit(std::move(reply), node, Core::Intent::kChange,
               [set](const Visit& visit, Reply to) { set(visit, nullptr, std::move(to)); });
}

void ShareFs::readlink(Reply reply, NodeId node) {
  core_->visit(std::move(reply), node, Core::Intent::kLook, [core = core_.get(), node](const Visit& visit, Reply to) {
    const Result<std::string> target = core->tree.read_link(visit, node);
    if (!target) return core->refuse(visit, std::move(to), target.error());
    visit.leave();
    std::move(to).link_target(target->c_str());
  });
}

void ShareFs::statfs(Reply reply, NodeId node) {
  core_->visit(std::move(reply), node, Core::Intent::kLook, [core = core_.get(), node](const Visit& visit, Reply to) {
    const Result<struct statvfs> statistics = core->tree.statistics(visit, node);
    if (!statistics) return core->refuse(visit, std::move(to), statistics.error());
    visit.leave();
    std::move(to).statistics(*statistics);
  });
}

void ShareFs::access(Reply reply, NodeId node, int mask) {
  const Core::Intent intent = (mask & W_OK) != 0 ? Core::Intent::kChange : Core::Intent::kLook;
  core_->visit(std::move(reply), node, intent, [core = core_.get(), node, mask](const Visit& visit, Reply to) {
    core->answer(visit, std::move(to), core->tree.access(visit, node, mask));
  });
}

}  // namespace berth::fuse
