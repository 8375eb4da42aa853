#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "fuse/callers/path_calls.h"
#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/sys/file.h"

// How a request that comes into a share that is to be overmounted is sent back to the share's name.
namespace berth::fuse {
namespace {

static_assert(KnownShares::kMost <= std::size_t{1} << StaleRetries::kShareBits);

/// For so long after a share was overmounted a caller may come that has passed the share's name before, in the same
/// system call.
constexpr std::chrono::seconds kJustOvermounted{1};
/// How long the call of a thread may be that cannot be looked at.
constexpr std::chrono::milliseconds kUnseenCall{100};
/// The longest time from a call's first path to its second one. When the kernel has believed nothing of a share's root
/// for so long, a caller that asks for that as the first thing is on the first path of its call.
constexpr std::chrono::seconds kBetweenPaths{1};

}  // namespace

/// While a file is open for writing through berth, its share is not overmounted, so that the path leads to the file.
/// Noted before the file is open.
void ShareFs::Core::note_writer(const ShareRequest& request) noexcept {
  if (request.share.share().may_be_native()) request.own_lease->count_as_writer(true);
}

bool ShareFs::Core::may_send_back(const KnownShare& share, pid_t thread, TimePoint now) {
  const manager::NativeDoor door = share.share().native_door();
  if (door == manager::NativeDoor::kNone) return false;
  if (thread == 0) unseen_at = now.time_since_epoch().count();
  return thread != 0 && (door == manager::NativeDoor::kShut || now < share.share().overmounted_at() + kJustOvermounted);
}

bool ShareFs::Core::send_back(KnownShare& share, pid_t thread, TimePoint now) {
  if (stale_retries.was_sent_back_elsewhere(thread, share.slot(), now)) {
    stale_retries.set(thread, share.slot(), StaleRetries::Stage::kInsideTwice, now);
    return false;
  }
  // What is believed of the root would let others walk past us.
  if (share.root_asked_since() > now) invalidate_root(share);
  const bool sent = stale_retries.set_sent_back(thread, share.slot(), now);
  if (sent) crash_point("sent-back");
  return sent;
}

/// The kernel walks again for an ESTALE that has another reason, too: a node is no longer the file. The caller is not
/// sent back again in the same call, for its program would see the second ESTALE: not by this share, nor by one that
/// the path leads to from here, nor by the next incarnation of this share's name.
void ShareFs::Core::note_stale(KnownShare& share, pid_t thread) {
  const TimePoint now = std::chrono::steady_clock::now();
  using Stage = StaleRetries::Stage;
  const Stage stage = stale_retries.stage_of(thread, share.slot(), now);
  if (stage == Stage::kUnknown || stage == Stage::kWalking) {
    stale_retries.set_sent_back(thread, share.slot(), now);
  }
}

/// Of one that walks again, and has not come by the share's name.
void ShareFs::Core::note_walk(const KnownShare& share, pid_t thread) {
  const sys::AsDaemon as_daemon;
  const std::optional<PathWalk> walk = path_walk_of(thread);
  if (walk) stale_retries.set_walk(thread, share.slot(), walk->begun_at);
}

/// No answer in such a share is remembered by the kernel, so whatever comes in asks us.
bool ShareFs::Core::must_retry_walk(KnownShare& share, NodeId node, pid_t thread, Origin comes) {
  const TimePoint now = std::chrono::steady_clock::now();
  // What a dead server has done for this request would be done again natively.
  if (comes == Origin::kNeverMind || CurrentRequest::first_attempt() != nullptr) return false;
  if (!may_send_back(share, thread, now)) return false;
  using Stage = StaleRetries::Stage;
  const Stage stage = stale_retries.stage_of(thread, share.slot(), now);
  if (stage != Stage::kUnknown && stage != Stage::kWalking) {
    const bool is_twice = stage == Stage::kInsideTwice;
    if (stage == Stage::kOnItsWay) note_walk(share, thread);
    stale_retries.set(thread, share.slot(), is_twice ? Stage::kInsideTwice : Stage::kInside, now);
    return false;
  }
  // What comes by a path comes by a name, but for the root.
  const bool is_by_path = stage == Stage::kWalking || NodeTable::is_root(node);
  const bool may_be_by_path = comes == Origin::kOnItsWay || comes == Origin::kAtItsEnd || is_by_path;
  return may_be_by_path && is_answered_stale(share, thread, comes, now);
}

bool ShareFs::Core::is_answered_stale(KnownShare& share, pid_t thread, Origin comes, TimePoint now) {
  // The kernel asks about a name that it knows as well. Where it hears an error then it does not hand it on: it takes
  // off what is mounted there and looks the name up (fuse_dentry_revalidate()). What it knows it is told.
  if (comes == Origin::kOnItsWay && nodes.size(share.index()) > 0) {
    stale_retries.set(thread, share.slot(), StaleRetries::Stage::kWalking, now);
    return false;
  }
  const sys::AsDaemon as_daemon;
  if (comes == Origin::kByChance) return is_of_path(thread) && send_back(share, thread, now);
  if (comes == Origin::kStats) return is_stat_of_path(thread) && send_back(share, thread, now);
  switch (path_call_of(thread)) {
    case PathCall::kAnywhere:
      return send_back(share, thread, now);
    case PathCall::kAtItsEnd:
      if (comes == Origin::kAtItsEnd) return send_back(share, thread, now);
      stale_retries.set(thread, share.slot(), StaleRetries::Stage::kWalking, now);
      break;
    case PathCall::kNowhere:
      break;
  }
  return false;
}

/// A walk through the share's root asks for its attributes first of all (may_lookup(), fs/namei.c), where the kernel
/// believes none. That is the only question of a rename(2) of two names in that directory between its two paths, so
/// here it is known.
bool ShareFs::Core::is_sent_back_from_root(KnownShare& share, pid_t thread) {
  const TimePoint now = std::chrono::steady_clock::now();
  if (thread == 0) share.set_may_be_watched(true);
  if (!may_send_back(share, thread, now)) return false;
  using Stage = StaleRetries::Stage;
  const Stage stage = stale_retries.stage_of(thread, share.slot(), now);
  const auto is_overmounted = [&] {  // or is about to be
    return share.share().native_door() == manager::NativeDoor::kOpen || is_overmounting(share.index());
  };
  const sys::AsDaemon as_daemon;
  const RootCall call = is_overmounted() ? await_root_call_of(thread) : root_call_of(thread);
  if (call == RootCall::kWatches || call == RootCall::kUnknown) share.set_may_be_watched(true);
  const bool may_walk_twice = call == RootCall::kWalksTwice || call == RootCall::kUnknown;
  if (stage == Stage::kOnItsWay || stage == Stage::kPassed) {
    if (stage == Stage::kOnItsWay) note_walk(share, thread);
    stale_retries.set(thread, share.slot(), may_walk_twice ? Stage::kInsideTwice : Stage::kInside, now);
    return false;
  }
  if (call == RootCall::kLooks || call == RootCall::kWatches) return false;
  if (!may_walk_twice && stage != Stage::kUnknown) {
    stale_retries.set(thread, share.slot(), stage == Stage::kWalking ? Stage::kWalking : Stage::kInside, now);
    return false;
  }
  // It may be at its second path.
  if (stage != Stage::kInside && stale_retries.touch(thread, share.slot(), now)) return false;
  const bool is_first_question = stage == Stage::kUnknown && now >= share.root_asked_since() + kBetweenPaths;
  const bool is_first_path = call == RootCall::kWalks || (call != RootCall::kUnknown && is_first_question);
  if (is_first_path && send_back(share, thread, now)) return true;
  if (!may_walk_twice) return false;
  // Noted first: either set_overmounting() comes later and the overmount waits for this thread, or it is seen here.
  const Stage next = stage == Stage::kInside ? Stage::kInsideTwice : Stage::kWalking;
  if (!stale_retries.set(thread, share.slot(), next, now)) {
    unseen_at = now.time_since_epoch().count();
    return false;
  }
  return is_overmounted() && await_root_call_of(thread) == RootCall::kWalksTwice && send_back(share, thread, now);
}

void ShareFs::set_overmounting(const manager::Share& share, bool overmounting) {
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return;
  MutexLock lock(core_->overmounting_mutex);
  if (overmounting) {
    core_->overmounting.insert(known->index());
  } else {
    core_->overmounting.erase(known->index());
  }
  core_->overmounting_count = core_->overmounting.size();
}

/// Sent back after all if the kernel has just looked the name up, and so hands the error on: it has no node
/// there.
Result<Entry> ShareFs::Core::look_up(const ShareRequest& request, NodeId parent, const char* name) {
  Result<Entry> found = real_files.look_up(request, parent, name);
  const pid_t thread = request.caller.pid;
  const TimePoint now = std::chrono::steady_clock::now();
  const std::uint32_t share = request.share.slot();
  if (!found || stale_retries.stage_of(thread, share, now) != StaleRetries::Stage::kWalking) return found;
  if (found->node != 0 && !nodes.is_new(found->node)) return found;
  const sys::AsDaemon as_daemon;
  if (path_call_of(thread) != PathCall::kAnywhere) return found;
  if (stale_retries.was_sent_back_elsewhere(thread, share, now)) return found;
  if (!stale_retries.set_sent_back(thread, share, now)) return found;
  if (found->node != 0) take_back(std::span(&found->node, 1));
  return fail(ESTALE);
}

/// One that was sent back from another share comes by a link or "..", perhaps. If it is in the same call, its program
/// would see the next ESTALE. So it waits here, or berth serves it where it may only be looking, which mounts nothing.
/// Not so where the kernel does not have the name: then it has all others wait that ask about the name, which would be
/// the agent. Such a caller is served by berth when it comes in (send_back()).
bool ShareFs::waits_for_overmount(pid_t thread, const std::shared_ptr<manager::Share>& share) {
  if (share->native_door() == manager::NativeDoor::kNone || !core_->stale_retries.is_known(thread)) return false;
  const Result<KnownShare*> known = core_->shares.add(share);
  if (!known) return false;
  using Stage = StaleRetries::Stage;
  const TimePoint now = std::chrono::steady_clock::now();
  const std::uint32_t share_slot = (*known)->slot();
  StaleRetries& retries = core_->stale_retries;
  const Stage stage = retries.stage_of(thread, share_slot, now);
  if (stage != Stage::kUnknown && stage != Stage::kOnItsWay) return false;
  const bool is_sent_back = stage == Stage::kOnItsWay;
  const std::optional<TimePoint> before =
      is_sent_back ? std::optional(now) : retries.came_from_elsewhere(thread, share_slot);
  if (!before) return false;
  const sys::AsDaemon as_daemon;
  const std::optional<PathWalk> walk = path_walk_of(thread);
  if (!(walk ? walk->asks_again : is_sent_back || (*known)->is_root_looked_up())) {
    // It is about to come in, and cannot be sent back: the share is not to be overmounted between its two paths.
    if (retries.was_sent_back_elsewhere(thread, share_slot, now))
      retries.set(thread, share_slot, Stage::kInsideTwice, now);
    return false;
  }
  if (!is_sent_back && !retries.set_sent_back(thread, share_slot, now)) return false;
  if (walk) retries.set_walk(thread, share_slot, walk->begun_at);
  if (is_sent_back) return true;
  const RootCall call = root_call_of(thread);
  const bool goes_in = call == RootCall::kWalks || call == RootCall::kWalksTwice || call == RootCall::kMakesNode;
  if (goes_in && now < *before + kBetweenPaths) return true;
  retries.set(thread, share_slot, Stage::kPassed, now);
  return false;
}

bool ShareFs::passes_name(pid_t thread, const manager::Share& share) {
  using Stage = StaleRetries::Stage;
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return true;
  const auto set = [&](Stage stage) {
    core_->stale_retries.set(thread, known->slot(), stage, std::chrono::steady_clock::now());
  };
  // Noted first, as in is_sent_back_from_root(): either the one that takes the mount off sees it, or it sees that this
  // has begun.
  set(Stage::kPassed);
  if (share.native_door() == manager::NativeDoor::kOpen) return true;
  set(Stage::kInsideTwice);  // what is known of its call is that it has begun
  if (!core_->is_overmounting(known->index())) return true;
  set(Stage::kOnItsWay);
  return false;
}

bool ShareFs::has_unseen_callers() const {
  return std::chrono::steady_clock::now() < TimePoint(Duration(core_->unseen_at)) + kUnseenCall;
}

std::vector<StaleRetries::Seen> ShareFs::walking_in(const manager::Share& share) const {
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return {};
  return core_->stale_retries.walking_in(known->slot(), std::chrono::steady_clock::now());
}

std::vector<StaleRetries::Seen> ShareFs::passed_in(const manager::Share& share) const {
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return {};
  return core_->stale_retries.passed_in(known->slot());
}

bool ShareFs::has_ended(const manager::Share& share, const StaleRetries::Seen& thread) {
  const KnownShare* const known = core_->shares.find(share);
  return known == nullptr || core_->stale_retries.has_ended(thread, known->slot());
}

bool ShareFs::may_hide(const manager::Share& share) const {
  const KnownShare* const known = core_->shares.find(share);
  return known != nullptr && (known->may_be_watched() || core_->nodes.size(known->index()) > 0);
}

void ShareFs::set_may_be_watched(const manager::Share& share, bool may_be) {
  KnownShare* const known = core_->shares.find(share);
  if (known != nullptr) known->set_may_be_watched(may_be);
}

bool ShareFs::is_in(NodeId node, const manager::Share& share) const {
  const KnownShare* const known = owner_of(node) == NodeOwner::kShare ? core_->share_of(node) : nullptr;
  return known != nullptr && &known->share() == &share;
}

Result<> ShareFs::shows_same_pages(int root) const {
  constexpr long kEcryptfs = 0xf15f;  // a stacked file system, as overlay: the kernel takes none (fuse_backing_open())
  struct statfs found {};
  if (::fstatfs(root, &found) != 0) return fail_errno();
  if (core_->passthrough == nullptr || !core_->passthrough->enabled()) {
    return fail(EOPNOTSUPP, "its files cannot be lent to the kernel (that takes Linux 6.9, and root)");
  }
  if (found.f_type == OVERLAYFS_SUPER_MAGIC || found.f_type == kEcryptfs || !sys::is_local(root)) {
    return fail(EOPNOTSUPP,
                "its files cannot be lent to the kernel, so that berth and the real mount would show different pages");
  }
  return {};
}

}  // namespace berth::fuse
