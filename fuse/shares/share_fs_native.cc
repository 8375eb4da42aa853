#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "fuse/callers/path_calls.h"
#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"
#include "manager/model/catalog.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/sys/file.h"

// How a request that comes into a share that is to be overmounted is sent back to the share's name.
namespace berth::fuse {
namespace {

static_assert(manager::kMaxShares <= std::size_t{1} << StaleRetries::kShareBits);

/// For so long after a share was overmounted a caller may come that has passed the share's name before, in the same
/// system call.
constexpr std::chrono::seconds kJustLaid{1};
/// How long a thread that begins to walk waits for the overmount.
constexpr std::chrono::milliseconds kLongestLaying{5};
constexpr std::chrono::microseconds kLookAgain{50};

}  // namespace

/// While a file is open for writing through berth, its share is not overmounted, so that the path leads to the file.
/// Noted before the file is open.
void ShareFs::Core::note_writer(const ShareRequest& request) noexcept {
  if (request.share.share().may_be_native()) request.own_lease->count_as_writer(true);
}

/// The kernel caches no answer in such a share, so every caller that comes in sends a request.
bool ShareFs::Core::must_retry_walk(const KnownShare& share, NodeId node, pid_t thread, Origin comes) {
  const manager::NativeDoor door = share.share().native_door();
  if (door == manager::NativeDoor::kNone || comes == Origin::kNeverMind || thread == 0) return false;
  const TimePoint now = std::chrono::steady_clock::now();
  if (door == manager::NativeDoor::kOpen && now >= share.share().overmounted_at() + kJustLaid) return false;
  // If it were sent back, the caller would repeat natively what a dead server has done for this request already.
  if (CurrentRequest::first_attempt() != nullptr) return false;
  using Stage = StaleRetries::Stage;
  const Stage stage = stale_retries.stage_of(thread, share.index(), now);
  // One that has passed the name while the real mount was to be seen there, and now it is not: another system call.
  if (stage == Stage::kOnItsWayOrNot && comes == Origin::kOnItsWay) {
    return stale_retries.set(thread, share.index(), Stage::kOnItsWay, now);
  }
  const bool is_known = stage == Stage::kOnItsWay || stage == Stage::kInside ||
                        (stage == Stage::kPassed && door == manager::NativeDoor::kOpen);
  if (!is_known) {
    // A request by a path comes with a name, except for the root.
    const bool is_by_path = stage == Stage::kWalking || NodeTable::is_root(node);
    const bool may_be_by_path = comes == Origin::kOnItsWay || comes == Origin::kAtItsEnd || is_by_path;
    return may_be_by_path && is_answered_stale(share, thread, comes, now);
  }
  stale_retries.set(thread, share.index(), Stage::kInside, now);
  // Another call than the one that was answered ESTALE: that one would have been seen to be under way.
  const bool begins = stage == Stage::kInside && comes == Origin::kOnItsWay;
  if (!begins || !is_overmounted_meanwhile(share)) return false;
  const sys::AsDaemon as_daemon;
  return walks_twice(thread) && stale_retries.set(thread, share.index(), Stage::kOnItsWayOrNot, now);
}

bool ShareFs::Core::is_answered_stale(const KnownShare& share, pid_t thread, Origin comes, TimePoint now) {
  const auto send_back = [&] {
    const bool sent = stale_retries.set(thread, share.index(), StaleRetries::Stage::kOnItsWay, now);
    if (sent) crash_point("sent-back");
    return sent;
  };
  // The kernel asks about a name that it knows as well. If the answer is an error, it does not hand it on: it takes off
  // what is mounted there and looks the name up (fuse_dentry_revalidate()). So it is answered what it knows.
  if (comes == Origin::kOnItsWay && nodes.size(share.index()) > 0) {
    stale_retries.set(thread, share.index(), StaleRetries::Stage::kWalking, now);
    return is_overmounted_meanwhile(share) && walks_twice(thread) &&
           stale_retries.set(thread, share.index(), StaleRetries::Stage::kOnItsWayOrNot, now);
  }
  const sys::AsDaemon as_daemon;
  if (comes == Origin::kByChance) return is_of_path(thread) && send_back();
  if (comes == Origin::kStats) return is_stat_of_path(thread) && send_back();
  switch (path_call_of(thread)) {
    case PathCall::kAnywhere:
      return send_back();
    case PathCall::kAtItsEnd:
      if (comes == Origin::kAtItsEnd) return send_back();
      stale_retries.set(thread, share.index(), StaleRetries::Stage::kWalking, now);
      return is_overmounted_meanwhile(share) && walks_twice(thread) && send_back();
    case PathCall::kNowhere:
      break;
  }
  return false;
}

/// For a thread that begins to walk. The thread is known by now: either the overmount waits for it, or it waits for the
/// overmount and walks to the real mount then. Not for long: if it holds the lock of the share's root, the overmount
/// waits until it continues.
bool ShareFs::Core::is_overmounted_meanwhile(const KnownShare& share) {
  if (!is_overmounting(share.index())) return false;
  const TimePoint begun = std::chrono::steady_clock::now();
  while (is_overmounting(share.index()) && std::chrono::steady_clock::now() < begun + kLongestLaying) {
    std::this_thread::sleep_for(kLookAgain);
  }
  return share.share().overmounted_at() >= begun;
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
  const ShareIndex share = request.share.index();
  if (!found || stale_retries.stage_of(thread, share, now) != StaleRetries::Stage::kWalking) return found;
  if (found->node != 0 && !nodes.is_new(found->node)) return found;
  const sys::AsDaemon as_daemon;
  if (path_call_of(thread) != PathCall::kAnywhere) return found;
  if (!stale_retries.set(thread, share, StaleRetries::Stage::kOnItsWay, now)) return found;
  if (found->node != 0) nodes.forget(found->node, 1);
  return fail(ESTALE);
}

bool ShareFs::waits_for_overmount(pid_t thread, const manager::Share& share) const {
  const TimePoint now = std::chrono::steady_clock::now();
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return false;
  const StaleRetries::Stage stage = core_->stale_retries.stage_of(thread, known->index(), now);
  return stage == StaleRetries::Stage::kOnItsWay || stage == StaleRetries::Stage::kOnItsWayOrNot;
}

void ShareFs::passes_name(pid_t thread, const manager::Share& share) {
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return;
  const bool is_open = share.native_door() == manager::NativeDoor::kOpen;
  core_->stale_retries.set(thread, known->index(),
                           is_open ? StaleRetries::Stage::kPassed : StaleRetries::Stage::kInside,
                           std::chrono::steady_clock::now());
}

std::vector<pid_t> ShareFs::threads_in(const manager::Share& share) const {
  const KnownShare* const known = core_->shares.find(share);
  if (known == nullptr) return {};
  return core_->stale_retries.served_in(known->index(), std::chrono::steady_clock::now());
}

bool ShareFs::is_known_below(const manager::Share& share) const {
  const KnownShare* const known = core_->shares.find(share);
  return known != nullptr && core_->nodes.size(known->index()) > 0;
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
    return fail(EOPNOTSUPP, "its files cannot be lent to the kernel (Linux 6.9)");
  }
  if (found.f_type == OVERLAYFS_SUPER_MAGIC || found.f_type == kEcryptfs || !sys::is_local(root)) {
    return fail(EOPNOTSUPP,
                "its files cannot be lent to the kernel, so that berth and the real mount would show different pages");
  }
  return {};
}

}  // namespace berth::fuse
