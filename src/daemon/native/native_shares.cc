#include "src/daemon/native/native_shares.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "fuse/callers/path_calls.h"
#include "src/daemon/native/holders.h"
#include "src/daemon/native/overmounts.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/thread.h"

namespace berth::daemon {
namespace {

/// How long is waited for threads that are in the share through berth to come out of a call that walks to two places.
constexpr std::chrono::milliseconds kWalkersPatience{20};
constexpr std::chrono::microseconds kLookAgain{200};
/// How long looking at other processes may take at all.
constexpr std::chrono::milliseconds kLookPatience{1000};
constexpr int kTries = 3;

bool has_died(const Error& agents) noexcept { return agents.code() == ECONNRESET || agents.code() == EPIPE; }

TimePoint from_now(std::chrono::milliseconds time) { return SystemClock().now() + time; }

}  // namespace

NativeRequest NativeShares::request(NativeRequest::Kind kind, const std::string& share) const {
  NativeRequest request;
  request.kind = kind;
  request.namespace_mount = setup_.namespace_mount;
  request.directory = setup_.directory;
  request.share = share;
  return request;
}

Result<std::vector<std::string>> NativeShares::take_over(TimePoint deadline) {
  const NativeCall talk = TRY(setup_.agent.ask(request(NativeRequest::Kind::kList, "")));
  std::vector<std::string> names;
  while (std::optional<NativeAnswer> answer = TRY(talk.next(deadline))) {
    if (answer->code != 0) return fail(answer->code, std::move(answer->text));
    MutexLock lock(mutex_);
    overmounts_.insert_or_assign(answer->text, answer->value);
    names.push_back(std::move(answer->text));
  }
  return names;
}

Result<> NativeShares::overmount(const manager::Share& share, int root, TimePoint deadline) {
  fuse::ShareFs* const shares = shares_;
  if (shares == nullptr) return fail(EAGAIN, "the server has just started");
  TRY_VOID(shares->shows_same_pages(root));
  shares->set_overmounting(share, true);
  Result<> laid = overmount_when_quiet(share, root, deadline);
  // Before the callers that wait for it check: the manager would store the time of the overmount too late for them.
  if (laid) const_cast<manager::Share&>(share).set_overmounted(SystemClock().now());
  shares->set_overmounting(share, false);
  return laid;
}

Result<> NativeShares::overmount_when_quiet(const manager::Share& share, int root, TimePoint deadline) {
  TRY_VOID(look_for_others(share));
  // A program that writes a file may check whether its path still leads to it (SQLite: does not write any more if not).
  if (share.writers() > 0) return fail(EAGAIN, "a file is open for writing through berth");
  Result<> laid = fail(ECONNRESET);
  // A repeated request gets the same answer, however far an agent came that has been killed.
  for (int tries = 0; tries < kTries && !laid && has_died(laid.error()); ++tries) {
    laid = ask_to_overmount(share, root, deadline);
  }
  return laid || !has_died(laid.error()) ? laid : fail(EAGAIN, std::string(laid.error().story()));
}

struct NativeShares::Look {
  bool walks = false;  ///< one may be between the two walks of a system call
  Result<Attached> attached{};
};

/// Looks at other processes on a thread of its own: such a process may hold up the thread (other_threads.h) as long as
/// it likes.
Result<NativeShares::Look> NativeShares::look(std::vector<pid_t> threads, bool below) const {
  struct Round {
    Mutex mutex;
    ConditionVariable ended;
    std::optional<Look> look BERTH_GUARDED_BY(mutex);
  };
  const auto round = std::make_shared<Round>();
  auto work = [round, threads = std::move(threads), below, keeper = setup_.keeper, directory = setup_.directory] {
    Look look;
    look.walks = std::any_of(threads.begin(), threads.end(), &fuse::may_be_between_walks);
    if (below && !look.walks) look.attached = find_attached(keeper, directory);
    MutexLock lock(round->mutex);
    round->look = std::move(look);
    round->ended.notify_all();
  };
  Result<std::thread> looking = sys::start_thread("berth-look", std::move(work));
  if (!looking) return fail(looking.error());
  looking->detach();
  const TimePoint until = from_now(kLookPatience);
  MutexLock lock(round->mutex);
  while (!round->look && SystemClock().now() < until) round->ended.wait_until(round->mutex, until);
  if (!round->look) return fail(EAGAIN, "a process that was in it cannot be looked at");
  return *std::move(round->look);
}

/// Threads that were served through berth move on first. And nothing below the share's directory may be hidden, which
/// has come there through berth.
Result<> NativeShares::look_for_others(const manager::Share& share) const {
  const fuse::ShareFs& shares = *shares_.load();
  const bool below = shares.is_known_below(share);
  if (shares.threads_in(share).empty() && !below) return {};
  Look seen = TRY(look(shares.threads_in(share), below));
  // A thread that runs has a moment to come out of its call, or to be sent back.
  for (const TimePoint until = from_now(kWalkersPatience); seen.walks && SystemClock().now() < until;) {
    std::this_thread::sleep_for(kLookAgain);
    seen = TRY(look(shares.threads_in(share), below));
  }
  if (seen.walks) return fail(EAGAIN, "a rename or a link may be under way in it through berth");
  const Attached attached = TRY(seen.attached);
  const auto hidden = std::find_if(attached.mounts.begin(), attached.mounts.end(),
                                   [&](const std::string& path) { return path.starts_with(share.name() + "/"); });
  if (hidden != attached.mounts.end()) return fail(EBUSY, "something is mounted in it, at " + quote(*hidden));
  for (const Attached::Watch& watch : attached.watches) {
    if (watch.node != 0 && !shares.is_in(watch.node, share)) continue;
    const std::string what = watch.node != 0 ? "something in it" : "the namespace";
    return fail(EBUSY, what + " is watched (" + watch.by + ") by process " + std::to_string(watch.process));
  }
  return {};
}

Result<> NativeShares::ask_to_overmount(const manager::Share& share, int root, TimePoint deadline) {
  UniqueFd mount = TRY(sys::clone_mount(root));
  NativeRequest wanted = request(NativeRequest::Kind::kLay, share.name());
  const NativeCall talk = TRY(setup_.agent.ask(wanted, mount));
  crash_point("lay-asked");
  mount.reset();  // the agent's now; held here it would look used
  const NativeAnswer answer = TRY(talk.expect(deadline));
  MutexLock lock(mutex_);
  overmounts_.insert_or_assign(share.name(), answer.value);
  return {};
}

Result<manager::NativeAccess::Outcome> NativeShares::remove_overmount(const manager::Share& share, When when,
                                                                      TimePoint deadline) {
  NativeRequest wanted = request(NativeRequest::Kind::kTake, share.name());
  wanted.when = when;
  {
    MutexLock lock(mutex_);
    const auto laid = overmounts_.find(share.name());
    if (laid == overmounts_.end()) return Outcome::kOff;
    wanted.overmount_id = laid->second;
  }
  Result<NativeAnswer> answer = fail(ECONNRESET);
  // A repeated request gets the same answer, however far an agent came that has been killed.
  for (int tries = 0; tries < kTries && !answer && has_died(answer.error()); ++tries) {
    const NativeCall talk = TRY(setup_.agent.ask(wanted));
    answer = talk.expect(deadline);
  }
  const auto outcome = static_cast<Outcome>(TRY(std::move(answer)).value);
  if (outcome == Outcome::kOff) {
    MutexLock lock(mutex_);
    overmounts_.erase(share.name());
  }
  return outcome;
}

Result<std::vector<std::string>> NativeShares::find_holders(const std::vector<Unmounted>& shares) {
  return daemon::find_holders(setup_.keeper, setup_.directory, shares);
}

}  // namespace berth::daemon
