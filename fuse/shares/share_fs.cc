#include "fuse/shares/share_fs.h"

#include <fcntl.h>
#include <linux/fuse.h>

#include <algorithm>
#include <map>
#include <span>
#include <vector>

#include "fuse/session/session.h"
#include "fuse/shares/share_fs_core.h"
#include "src/lib/sys/file.h"

namespace berth::fuse {

ShareFs::ShareFs(Setup setup) : core_(std::make_unique<Core>(setup)) {}
ShareFs::~ShareFs() = default;

Result<Entry> ShareFs::root_entry(const std::shared_ptr<manager::Share>& share, bool listed) {
  KnownShare* const known = TRY(core_->shares.add(share));
  known->count_root_lookup();
  return Entry{.node = NodeTable::root_id(known->index()),
               .attributes = known->root_attributes(),
               .attr_ttl = core_->root_ttl(*known, listed),
               .entry_ttl = known->attr_ttl()};
}

bool ShareFs::is_root_cached(const manager::Share& share, TimePoint until) const noexcept {
  const KnownShare* const known = core_->shares.find(share);
  const std::optional<TimePoint> told = known != nullptr ? known->root_sent() : std::nullopt;
  return told && until < *told + kIdleRootTtl;
}

void ShareFs::serve(Session& session) noexcept { core_->session = &session; }

void ShareFs::on_mounted(const manager::Share& share) {
  KnownShare* const known = core_->shares.find(share);
  if (known != nullptr) core_->invalidate_root(*known);
}

void ShareFs::drop_unused(const manager::Share& share) {
  constexpr std::size_t kMost = 16384;
  constexpr std::size_t kAtOnce = 256;
  const KnownShare* const known = core_->shares.find(share);
  Session* const session = core_->session;
  if (known == nullptr || session == nullptr) return;
  std::vector<NodeId> nodes = core_->nodes.unopened_of(known->index(), kMost);
  nodes.push_back(NodeTable::root_id(known->index()));
  for (std::size_t at = 0; at < nodes.size(); at += kAtOnce) {
    const std::size_t count = std::min(kAtOnce, nodes.size() - at);
    if (!session->prune(std::span(nodes).subspan(at, count))) {
      core_->prunes = false;
      return;
    }
  }
}

bool ShareFs::is_known(const manager::Share& share, bool below) const {
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return false;
  // A kernel that cannot be asked keeps what is not in use for long.
  if (below && !core_->prunes) return false;
  return core_->nodes.size(known->index()) > 0 || (!below && known->is_root_held());
}

ino_t ShareFs::root_inode(const manager::Share& share) noexcept { return InodeNumbers(share.name()).root(); }

HandleUsers ShareFs::users_of(const manager::Share& share, const UsersWanted& wanted) const {
  HandleUsers found;
  KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return found;
  std::vector<NodeId> nodes;
  std::map<uid_t, std::size_t> of_one;
  const auto add = [&](HandleUser user, NodeId node) {
    if (found.users.size() >= wanted.most || ++of_one[user.uid] > wanted.most_of_one) {
      ++found.more;
      return;
    }
    found.users.push_back(std::move(user));
    nodes.push_back(node);
  };
  core_->handles.each_of_share(known->index(), [&](const Handle& handle) {
    add({.pid = handle.pid, .uid = handle.uid, .directory = handle.directory, .what = {}}, handle.node);
  });
  if (Session* const session = core_->session) {
    for (const Lane::Caller& caller : session->in_flight().callers(known->lane())) {
      add({.pid = caller.pid, .uid = caller.uid, .waits = true, .what = {}}, caller.node);
    }
  }
  std::size_t told = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    HandleUser& user = found.users[i];
    if (!wanted.names_are_told(user.uid) || told > wanted.most_of_names) continue;
    user.what = core_->nodes.path_of(nodes[i], wanted.longest_name);
    told += user.what->size();
    if (user.waits) *user.what += " (waits)";
  }
  return found;
}

Unanswered ShareFs::unanswered_in(const manager::Share& share) const {
  Unanswered found;
  KnownShare* const known = core_->shares.find(share);
  Session* const session = core_->session;
  if (known == nullptr || session == nullptr) return found;
  for (const Lane::Caller& caller : session->in_flight().callers(known->lane())) {
    const bool is_first = found.callers++ == 0;
    if (!is_first && found.since <= caller.since) continue;
    found.operation = caller.operation();
    found.since = caller.since;
  }
  return found;
}

ShareFs::Counts ShareFs::counts() const {
  const NodeTable::Counts nodes = core_->nodes.counts();
  return {nodes.nodes, core_->handles.size(), nodes.descriptors};
}

Result<std::unique_ptr<NodePruner>> ShareFs::keep_nodes_below(std::size_t limit, NodePruner::Drop drop) {
  return NodePruner::start(core_->nodes, limit, std::move(drop));
}

void ShareFs::before_unmount(manager::Share& share, int root, bool force) {
  KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return;
  Session* const session = core_->session;
  if (force && session != nullptr) session->in_flight().give_up(known->lane(), ECONNABORTED);
  core_->nodes.drop_descriptors(known->index());
  known->release_root(root);
}

void ShareFs::note_lost_pages(NodeId node) { core_->handles.note_late_error(node, EIO); }

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
  core_->with_share(
      std::move(reply), parent, Core::Access::kRead,
      [core = core_.get(), parent, name = std::string(name)](const ShareRequest& request) {
        return core->look_up(request, parent, name.c_str());
      },
      Core::Origin::kOnItsWay);
}

void ShareFs::forget(NodeId node, std::uint64_t count) noexcept {
  if (!NodeTable::is_root(node)) return core_->nodes.forget(node, count);
  if (KnownShare* const share = core_->share_of(node); share != nullptr) {
    share->note_root_sent({});
    share->forget_root_lookups(count);
  }
}

void ShareFs::getattr(Reply reply, NodeId node, const fuse_file_info* handle) {
  if (handle != nullptr) {
    return core_->with_file(std::move(reply), node, handle->fh,
                            [core = core_.get(), node](const ShareRequest&, const Handle& open, Reply& to) -> Result<> {
                              const struct statx x = TRY(sys::stat_at(open.fd(), "", kAllAttributes));
                              core->reply_attributes(std::move(to), node, x);
                              return {};
                            });
  }
  if (NodeTable::is_root(node)) return core_->answer_root(std::move(reply), node);
  core_->with_share(
      std::move(reply), node, Core::Access::kRead,
      [core = core_.get(), node](const ShareRequest& request) { return core->real_files.attributes(request, node); },
      Core::Origin::kStats);
}

void ShareFs::setattr(Reply reply, NodeId node, const struct stat& attributes, int to_set,
                      const fuse_file_info* handle) {
  const auto set = [core = core_.get(), node, attributes, to_set](const ShareRequest& request, const Handle* open) {
    return core->real_files.set_attributes(request, node, attributes, to_set, open);
  };
  if (handle != nullptr) {
    return core_->with_handle_as_caller(std::move(reply), node, handle->fh, Core::Access::kModify,
                                        [&](const ShareRequest& request, Handle& open) {
                                          Result<struct stat> done = set(request, &open);
                                          if (done) core_->real_files.note_written(request.share, open);
                                          return done;
                                        });
  }
  core_->with_share(std::move(reply), node, Core::Access::kModify,
                    [set](const ShareRequest& request) { return set(request, nullptr); });
}

void ShareFs::readlink(Reply reply, NodeId node) {
  core_->with_share(
      std::move(reply), node, Core::Access::kRead,
      [core = core_.get(), node](const ShareRequest& request) { return core->real_files.read_link(request, node); });
}

void ShareFs::statfs(Reply reply, NodeId node) {
  core_->with_share(
      std::move(reply), node, Core::Access::kRead,
      [core = core_.get(), node](const ShareRequest& request) { return core->real_files.statistics(request, node); });
}

void ShareFs::access(Reply reply, NodeId node, int mask) {
  const Core::Access access = (mask & W_OK) != 0 ? Core::Access::kModify : Core::Access::kRead;
  core_->with_share(std::move(reply), node, access, [core = core_.get(), node, mask](const ShareRequest& request) {
    return core->real_files.access(request, node, mask);
  });
}

}  // namespace berth::fuse
