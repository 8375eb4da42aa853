#include "fuse/shares/share_fs.h"

#include <fcntl.h>
#include <linux/fuse.h>

#include "fuse/session/session.h"
#include "fuse/shares/share_fs_core.h"
#include "src/lib/sys/file.h"

namespace berth::fuse {

ShareFs::ShareFs(Setup setup) : core_(std::make_unique<Core>(setup)) {}
ShareFs::~ShareFs() = default;

Entry ShareFs::root_entry(const std::shared_ptr<manager::Share>& share) {
  const Result<KnownShare*> known = core_->shares.add(share);
  if (!known) return {};
  return {.node = NodeTable::root_id((*known)->index()),
          .attributes = (*known)->root_attributes(),
          .attributes_valid = core_->root_valid(**known),
          .entry_valid = (*known)->attributes_valid()};
}

bool ShareFs::root_is_believed(const manager::Share& share, TimePoint until) const noexcept {
  const KnownShare* const known = core_->shares.find(share);
  const std::optional<TimePoint> told = known != nullptr ? known->root_told() : std::nullopt;
  return told && until < *told + kIdleRootValid;
}

void ShareFs::serve(Session& session) noexcept { core_->session = &session; }

void ShareFs::on_mounted(const manager::Share& share) {
  KnownShare* const known = core_->shares.find(share);
  if (known != nullptr) core_->disbelieve_root(*known);
}

ino_t ShareFs::root_inode(const manager::Share& share) noexcept { return InodeNumbers(share.name()).root(); }

std::vector<ShareFs::User> ShareFs::users_of(const manager::Share& share) const {
  std::vector<User> users;
  KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return users;
  for (const auto& handle : core_->handles.of_share(known->index())) {
    users.push_back({handle->pid, handle->uid, handle->directory, core_->nodes.path_of(handle->node)});
  }
  Session* const session = core_->session;
  if (session == nullptr) return users;
  for (const Lane::Caller& caller : session->in_flight().callers(known->lane())) {
    users.push_back({caller.pid, caller.uid, false, core_->nodes.path_of(caller.node) + " (waits)"});
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
  if (Session* const session = core_->session) session->in_flight().give_up(known->lane(), ECONNABORTED);
  core_->nodes.drop_descriptors(known->index());
  known->let_go();
}

Lane* ShareFs::lane_of(NodeId node, std::uint32_t opcode) const {
  switch (opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return nullptr;
    case FUSE_GETATTR:
    case FUSE_GETXATTR:
      if (NodeTable::is_root(node)) return nullptr;
      break;
    default:
      break;
  }
  KnownShare* const share = core_->share_of(node);
  return share != nullptr ? &share->lane() : nullptr;
}

void ShareFs::lookup(Reply reply, NodeId parent, const char* name) {
  core_->visit(
      std::move(reply), parent, Core::Intent::kLook,
      [core = core_.get(), parent, name = std::string(name)](const Visit& visit) {
        return core->look_up(visit, parent, name.c_str());
      },
      Core::Comes::kOnItsWay);
}

void ShareFs::forget(NodeId node, std::uint64_t count) noexcept {
  if (!NodeTable::is_root(node)) return core_->nodes.forget(node, count);
  if (KnownShare* const share = core_->share_of(node); share != nullptr) share->note_root_told({});
}

void ShareFs::getattr(Reply reply, NodeId node, const fuse_file_info* handle) {
  if (handle != nullptr) {
    return core_->visit_open(std::move(reply), node, handle->fh, [&](const Visit& visit, const Handle& open, Reply to) {
      core_->answer(visit, std::move(to), node, sys::stat_at(open.fd(), "", kAllAttributes));
    });
  }
  if (NodeTable::is_root(node)) return core_->answer_root(std::move(reply), node);
  core_->visit(
      std::move(reply), node, Core::Intent::kLook,
      [core = core_.get(), node](const Visit& visit) { return core->tree.attributes(visit, node); },
      Core::Comes::kStats);
}

void ShareFs::setattr(Reply reply, NodeId node, const struct stat& attributes, int to_set,
                      const fuse_file_info* handle) {
  const auto set = [core = core_.get(), node, attributes, to_set](const Visit& visit, const Handle* open) {
    return core->tree.set_attributes(visit, node, attributes, to_set, open);
  };
  if (handle != nullptr) {
    return core_->visit_open_as_caller(std::move(reply), node, handle->fh, Core::Intent::kChange,
                                       [&](const Visit& visit, const Handle& open) { return set(visit, &open); });
  }
  core_->visit(std::move(reply), node, Core::Intent::kChange,
               [set](const Visit& visit) { return set(visit, nullptr); });
}

void ShareFs::readlink(Reply reply, NodeId node) {
  core_->visit(std::move(reply), node, Core::Intent::kLook,
               [core = core_.get(), node](const Visit& visit) { return core->tree.read_link(visit, node); });
}

void ShareFs::statfs(Reply reply, NodeId node) {
  core_->visit(std::move(reply), node, Core::Intent::kLook,
               [core = core_.get(), node](const Visit& visit) { return core->tree.statistics(visit, node); });
}

void ShareFs::access(Reply reply, NodeId node, int mask) {
  const Core::Intent intent = (mask & W_OK) != 0 ? Core::Intent::kChange : Core::Intent::kLook;
  core_->visit(std::move(reply), node, intent,
               [core = core_.get(), node, mask](const Visit& visit) { return core->tree.access(visit, node, mask); });
}

}  // namespace berth::fuse
