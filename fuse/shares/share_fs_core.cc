#include "fuse/shares/share_fs_core.h"

#include <algorithm>
#include <cerrno>

#include "fuse/callers/path_calls.h"
#include "fuse/session/exception_barrier.h"
#include "fuse/session/session.h"
#include "fuse/session/this_request.h"
#include "fuse/shares/root_questions.h"
#include "src/lib/base/mutex.h"
#include "src/lib/sys/file.h"

namespace berth::fuse {
namespace {

/// The number of a parked request on its way from Manager::lease() to an interrupt, whichever comes first.
class Waiting {
 public:
  /// The number to interrupt now; 0: not known yet, began() will answer it.
  manager::WaiterId interrupted() {
    MutexLock lock(mutex_);
    interrupted_ = true;
    return id_;
  }
  /// The number, if an interrupt has come already; else 0.
  manager::WaiterId began(manager::WaiterId id) {
    MutexLock lock(mutex_);
    id_ = id;
    return interrupted_ ? id : 0;
  }

 private:
  Mutex mutex_;
  manager::WaiterId id_ BERTH_GUARDED_BY(mutex_) = 0;
  bool interrupted_ BERTH_GUARDED_BY(mutex_) = false;
};

/// Whether the last known attributes of the root of a share that is not mounted may refuse the caller what the real
/// root grants.
bool is_refused(const KnownShare& share, const sys::Identity& caller) {
  if (caller.uid == 0) return false;
  const std::optional<TimePoint> told = share.root_sent();
  const bool is_believed = told && std::chrono::steady_clock::now() < *told + ShareFs::kIdleRootTtl;
  return !grants(share.root_attributes(), !share.root_access_list(kAccessList).empty(), caller,
                 permissions_wanted(caller, is_believed));
}

/// At most a quarter of what the process may have open at all; the rest is for handles.
std::size_t affordable(std::size_t descriptors) noexcept {
  return std::min<std::size_t>(descriptors, sys::file_limit() / 4);
}

/// A share that was in use so recently may soon be again.
constexpr std::chrono::seconds kInUseAgain{60};

/// A handle with a higher number would have no record for the next server.
OpenFiles::Limits with_records(OpenFiles::Limits limits) noexcept {
  limits.end = std::min(limits.end, static_cast<int>(HandleArea::kMaxHandles));
  return limits;
}

}  // namespace

ShareFs::Core::Core(const Setup& setup)
    : manager(setup.manager),
      requests(setup.requests),
      passthrough(setup.passthrough),
      has_predecessor(setup.kept != nullptr && setup.kept->session.init_size != 0),
      shares(setup.kept != nullptr ? &setup.kept->shares : nullptr),
      nodes(affordable(setup.max_cached_descriptors), setup.kept != nullptr ? &setup.kept->nodes : nullptr),
      handles(setup.kept != nullptr ? &setup.kept->handles : nullptr, with_records(setup.open_files)),
      locks(setup.kept != nullptr ? &setup.kept->locks : nullptr, &handles),
      real_files(nodes, handles, locks, setup.passthrough),
      stale_retries(
          setup.kept != nullptr ? &setup.kept->stale_retries : nullptr,
          [](pid_t thread) {
            const sys::AsDaemon as_daemon;
            return call_of(thread);
          },
          [](pid_t thread) {
            const sys::AsDaemon as_daemon;
            const std::optional<PathWalk> walk = path_walk_of(thread);
            return walk ? std::optional(walk->begun_at) : std::nullopt;
          }) {
  handles.open_files().on_few([this] {
    nodes.drop_all_descriptors();
    manager.make_room();
  });
}

void ShareFs::Core::park(KnownShare& share, Reply reply, Work work, unsigned deaths) {
  const sys::Identity caller = reply.caller();
  if (!share.lane().wait_for_mount(caller.uid)) return std::move(reply).error(EAGAIN);
  const std::uint64_t unique = CurrentRequest::unique();
  // For the lane, when there is a mount. Before the reply is handed on: afterwards this thread has no request.
  Lane::Waiting later;
  later.unique = this_request::number() != 0 ? this_request::number() : unique;
  later.node = NodeTable::root_id(share.index());
  later.opcode = this_request::opcode();
  later.uid = caller.uid;
  later.pid = caller.pid;
  later.changes = this_request::changes();
  const auto waiting = std::make_shared<Waiting>();
  reply.on_interrupt([this, &share, waiting] {
    const manager::WaiterId id = waiting->interrupted();
    if (id != 0) manager.interrupt(share.share(), id);
  });
  sys::assume_daemon();  // threads that are started for the mount inherit this one's identity
  CurrentRequest::note_parked();
  const FirstAttempt* const first_attempt = CurrentRequest::first_attempt();
  const manager::WaiterId id = manager.lease(
      share.share(), [this, &share, reply = std::move(reply), work = std::move(work), later = std::move(later), unique,
                      first_attempt = first_attempt != nullptr ? std::optional(*first_attempt) : std::nullopt,
                      deaths](Result<manager::Lease> lease) mutable {
        share.lane().stop_waiting(later.uid);
        go_on({share, std::move(lease), std::move(reply), std::move(work), unique, first_attempt, deaths},
              std::move(later));
      });
  if (waiting->began(id) != 0) manager.interrupt(share.share(), id);
}

/// On a thread of the manager's, which must not be lost in a share that does not answer now.
void ShareFs::Core::go_on(Parked parked, Lane::Waiting waiting) {
  Session* const serving = session;
  if (serving == nullptr || !parked.lease) return finish_parked(parked);
  Lane& lane = parked.share.lane();
  waiting.work = [this, parked = std::move(parked)](int refused) mutable {
    if (refused != 0) parked.lease = fail(refused);
    finish_parked(parked);
  };
  serving->in_flight().go_on(lane, std::move(waiting));
}

/// On a thread that then acts as the daemon.
void ShareFs::Core::finish_parked(Parked& parked) noexcept {
  if (!parked.lease) return std::move(parked.reply).error(parked.lease.error());
  const Requests::Borrowed record(requests);
  const CurrentRequest request(record.get(), parked.unique, parked.first_attempt ? &*parked.first_attempt : nullptr, 0,
                               requests);
  this_request::set_record(record.get());
  ExceptionBarrier wall(parked.reply.request());
  try {
    perform(parked.share, *std::move(parked.lease), std::move(parked.reply), parked.work, parked.deaths);
  } catch (...) {
    wall.answer_exception();
  }
  sys::assume_daemon();
}

bool ShareFs::Core::is_to_be_reopened(const ShareRequest& request, const Handle& handle,
                                      const Error& error) const noexcept {
  const bool is_of_earlier_mount = handle.mount_generation != handle.lease.share().mount_generation();
  if (!says_disconnected(error) && !(is_of_earlier_mount && error.code() == ESTALE)) return false;
  return !this_request::is_given_up() && RealFiles::may_reopen(request, handle);
}

/// What may have been changed in the dead mount is not changed once more. A caller that has its answer waits for no
/// mount.
bool ShareFs::Core::may_be_done_again(const Error& error) noexcept {
  return says_disconnected(error) && !CurrentRequest::may_have_changed() && !this_request::is_given_up();
}

bool ShareFs::Core::look_whether_lost(const ShareRequest& request) {
  const sys::AsDaemon as_daemon;
  // Not something else that is mounted in the share, and not what the kernel remembers.
  const Result<struct statx> root = sys::stat_at(request.lease.root(), "", STATX_TYPE, AT_STATX_FORCE_SYNC);
  const bool is_dead = !root && (says_disconnected(root.error()) || root.error().code() == ESTALE);
  if (is_dead) manager.report_lost(request.share.share(), request.mount_generation);
  return is_dead;
}

void ShareFs::Core::reply_error(const ShareRequest& request, Reply reply, const Error& error) {
  const bool says_dead = says_disconnected(error);
  const bool is_lost = (says_dead || error.code() == ESTALE) && look_whether_lost(request);
  int code = error.code();
  // What is open in a dead mount is of no use any more, and of what was being changed there it is not known what became
  // of it. Another request finds the next mount.
  if (says_dead && (is_lost || request.own_lease == nullptr)) code = EIO;
  if (code == EMFILE || code == ENFILE) nodes.drop_all_descriptors();
  if (code == ESTALE) note_stale(request.share, request.caller.pid);
  request.release_lease();
  // EMFILE would mean that the caller has no descriptors left, which it has.
  std::move(reply).error(code == EMFILE ? ENFILE : code);
}

void ShareFs::Core::answer_root(Reply reply, NodeId node) {
  KnownShare* const share = share_of(node);
  if (share == nullptr) return std::move(reply).error(ESTALE);
  std::optional<manager::Lease> lease = may_ask_root(*share) ? share->share().try_lease() : std::nullopt;
  // It is sent back after the mount, if at all: not twice in one call.
  if (!lease && check_access(share->policy(), reply.caller(), false) && is_refused(*share, reply.caller())) {
    return ask_root(*share, std::move(reply), node);
  }
  if (is_sent_back_from_root(*share, reply.caller().pid)) {
    lease.reset();
    return std::move(reply).error(ESTALE);
  }
  if (lease) {
    lease->only_look();
    if (!share->is_local()) reply.set_known_attributes(share->root_attributes(), root_ttl(*share));
    // As the caller: what was refused is answered from what is known.
    const bool met = sys::assume(reply.caller()) && share->on_mounted_root(*lease);
    const std::uint32_t generation = share->share().mount_generation();
    const Result<struct statx> x = sys::stat_at(lease->root(), "", STATX_BASIC_STATS);
    share->share().note_answer();
    if (met && x) share->remember_root(*x);
    if (!x && says_disconnected(x.error())) manager.report_lost(share->share(), generation);
    lease.reset();
  }
  std::move(reply).attributes(share->root_attributes(), root_ttl(*share));
}

/// The kernel does not cache an answer that is on its way when the share is mounted (invalidate_root()). So where the
/// real root's answer differs, the caller is sent back: the kernel walks the path again, once, and asks again.
void ShareFs::Core::ask_root(KnownShare& share, Reply reply, NodeId node) {
  with_share(
      std::move(reply), node, Access::kRead,
      [ this, &share, node, before = share.root_permissions() ](const ShareRequest& request) -> Result<struct statx> {
        const struct statx x = TRY(real_files.attributes(request, node));
        if (share.root_permissions() == before) {
          return is_sent_back_from_root(share, request.caller.pid) ? Result<struct statx>(fail(ESTALE)) : x;
        }
        return fail(ESTALE);
      });
}

/// A caller that looks at a share's root, and has not gone in, does not wait for its server.
bool ShareFs::Core::may_ask_root(KnownShare& share) const {
  Session* const serving = session;
  return share.is_local() || serving == nullptr || serving->in_flight().try_enter(share.lane());
}

/// The kernel does not cache an answer that is on its way either (fuse_reverse_inval_inode(), attr_version).
void ShareFs::Core::invalidate_root(KnownShare& share) noexcept {
  const TimePoint now = std::chrono::steady_clock::now();
  if (share.root_asked_since() > now) share.note_root_asked(now);
  share.note_root_sent({});
  Session* const told = session;
  if (told != nullptr) static_cast<void>(told->invalidate_node(NodeTable::root_id(share.index()), -1, 0));
}

/// Where it is not mounted until it is, of which the kernel is told. But what walks into a share that is to be native
/// must ask, so there they are believed only where they come with a listing of the namespace, for a program that asks
/// for all of them next.
Seconds ShareFs::Core::root_ttl(KnownShare& share, bool listed) const noexcept {
  const bool is_mounted = !share.share().gate().closed();
  if (is_mounted || share.policy().attr_timeout.count() <= 0 || session == nullptr) return share.attr_ttl();
  const TimePoint now = std::chrono::steady_clock::now();
  if (share.share().may_be_native() && (!listed || now < share.let_go_at() + kInUseAgain)) return 0;
  share.note_root_asked(now + kIdleRootTtl);
  share.set_may_be_watched(true);
  share.note_root_sent(now);
  return std::max<Seconds>(share.attr_ttl(), kIdleRootTtl.count());
}

bool ShareFs::Core::answer_root_xattr(Reply& reply, NodeId node, std::string_view name, std::size_t size) {
  KnownShare* const share = share_of(node);
  if (share == nullptr) return false;
  std::optional<manager::Lease> lease = share->share().try_lease();
  if (lease) lease->only_look();
  const bool is_asked = lease && may_ask_root(*share);
  lease.reset();
  if (is_asked && share->is_local()) return false;
  // A program that lists a namespace asks for a label and access lists of each share, and the kernel asks for access
  // lists.
  const std::vector<char> list = share->root_access_list(name);
  int error = 0;
  if (list.empty()) {
    error = is_access_list(name) ? ENODATA : EOPNOTSUPP;
  } else if (size != 0 && size < list.size()) {
    error = ERANGE;
  }
  if (is_asked) {
    Reply::set_known_xattr(error, list, size);
    return false;
  }
  if (error != 0) {
    std::move(reply).error(error);
  } else if (size == 0) {
    std::move(reply).xattr_size(list.size());
  } else {
    std::move(reply).data(list);
  }
  return true;
}

void ShareFs::Core::reply_with(const KnownShare& /*share*/, Reply reply, NodeId /*node*/, const Entry& entry) {
  if (!std::move(reply).entry(entry) && entry.node != 0) take_back(std::span(&entry.node, 1));
}

void ShareFs::Core::reply_with(const KnownShare& /*share*/, Reply reply, NodeId node, const Opened& opened) {
  if (!std::move(reply).opened(opened)) real_files.close(opened.handle, node);
}

void ShareFs::Core::reply_with(const KnownShare& /*share*/, Reply reply, NodeId /*node*/,
                               const RealFiles::Created& created) {
  if (std::move(reply).created(created.entry, created.opened)) return;
  real_files.close(created.opened.handle, created.entry.node);
  take_back(std::span(&created.entry.node, 1));
}

void ShareFs::Core::take_back(std::span<const NodeId> looked_up) noexcept {
  if (looked_up.empty()) return;
  CurrentRequest::note_taken_back();
  for (const NodeId node : looked_up) nodes.forget(node, 1);
}

void ShareFs::Core::reply_with(const KnownShare& share, Reply reply, NodeId /*node*/, const struct statx& x) {
  std::optional<timespec> born;
  if ((x.stx_mask & STATX_BTIME) != 0) {
    born = timespec{.tv_sec = x.stx_btime.tv_sec, .tv_nsec = static_cast<long>(x.stx_btime.tv_nsec)};
  }
  std::move(reply).attributes(share.attributes_of(x), share.attr_ttl(x.stx_mode), born);
}

void ShareFs::Core::reply_with(const KnownShare& share, Reply reply, NodeId /*node*/, const struct stat& attributes) {
  std::move(reply).attributes(attributes, share.attr_ttl(attributes.st_mode));
}

void ShareFs::Core::reply_with(const KnownShare& /*share*/, Reply reply, NodeId /*node*/,
                               const struct statvfs& statistics) {
  std::move(reply).statistics(statistics);
}

void ShareFs::Core::reply_with(const KnownShare& /*share*/, Reply reply, NodeId /*node*/,
                               const std::string& link_target) {
  std::move(reply).link_target(link_target.c_str());
}

void ShareFs::Core::reply_with(const KnownShare& /*share*/, Reply reply, NodeId /*node*/, const XattrBytes& xattr) {
  if (xattr.bytes.data() == nullptr) return std::move(reply).xattr_size(xattr.size);
  std::move(reply).data(xattr.bytes);
}

void ShareFs::Core::reply_with(const KnownShare& /*share*/, Reply reply, NodeId node, const Controlled& controlled) {
  if (controlled.changes_attributes) reply.invalidate_attributes_of(node);
  std::move(reply).ioctl(0, controlled.bytes);
}

}  // namespace berth::fuse
