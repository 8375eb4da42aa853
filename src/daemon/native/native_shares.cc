#include "src/daemon/native/native_shares.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "fuse/callers/path_calls.h"
#include "src/daemon/native/hidden.h"
#include "src/daemon/native/holders.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/ask_on_thread.h"
#include "src/lib/sys/mount.h"

namespace berth::daemon {
namespace {

/// How long is waited for threads that are in the share through berth to come out of a call that walks to two places.
constexpr std::chrono::milliseconds kWalkersPatience{20};
constexpr std::chrono::microseconds kLookAgain{200};
/// How long a caller may be on its way from the share's name into the real mount.
constexpr std::chrono::milliseconds kLongestWay{500};
/// How long looking at other processes may take at all.
constexpr std::chrono::milliseconds kLookPatience{1000};
/// The same for all that all processes have open.
constexpr std::chrono::milliseconds kCountPatience{5000};
/// Shown of what the processes of one user have in all shares, and of what all processes have.
constexpr UsesWanted kShownOfOne{.most = 2048, .most_of_names = std::size_t{128} << 10};
constexpr UsesWanted kShown{.most = 16384, .most_of_names = std::size_t{1} << 20};
constexpr int kTries = 3;

bool has_died(const Error& agents) noexcept { return agents.code() == ECONNRESET || agents.code() == EPIPE; }

TimePoint from_now(std::chrono::milliseconds time) { return SystemClock().now() + time; }

/// Looks at other processes on a thread of its own: such a process may hold up the thread (other_threads.h) as long as
/// it likes.
template <typename Found>
Result<Found> look(UniqueFunction<Found()> at, std::chrono::milliseconds patience = kLookPatience) {
  Result<Found> found = sys::ask_on_thread("berth-look", std::move(at), from_now(patience));
  if (!found && found.error().code() == ETIMEDOUT) return fail(EAGAIN, "a process that was in it cannot be looked at");
  return found;
}

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

Result<std::uint64_t> NativeShares::overmount(manager::Share& share, int root, TimePoint deadline) {
  fuse::ShareFs* const shares = shares_;
  if (shares == nullptr) return fail(EAGAIN, "the server has just started");
  TRY_VOID(shares->shows_same_pages(root));
  Result<std::uint64_t> overmounted = overmount_when_quiet(share, root, deadline);
  if (overmounted) share.set_overmounted(SystemClock().now());  // before anything is answered that waits for it
  // Berth is not asked about the root for a while now.
  if (!overmounted) shares->set_may_be_watched(share, true);
  shares->set_overmounting(share, false);
  return overmounted;
}

Result<std::uint64_t> NativeShares::overmount_when_quiet(const manager::Share& share, int root, TimePoint deadline) {
  TRY_VOID(await_walkers(share));
  TRY_VOID(look_for_hidden(share));
  // A program that writes a file may look whether its path still leads to it (SQLite: does not write any more if not).
  if (share.writers() > 0) return fail(EAGAIN, "a file is open for writing through berth");
  Result<std::uint64_t> overmounted = fail(ECONNRESET);
  // A repeated request gets the same answer, however far an agent came that has been killed.
  for (int tries = 0; tries < kTries && !overmounted && has_died(overmounted.error()); ++tries) {
    overmounted = ask_to_overmount(share, root, deadline);
  }
  return overmounted || !has_died(overmounted.error()) ? overmounted
                                                       : fail(EAGAIN, std::string(overmounted.error().story()));
}

/// Notes which of these threads are in no such call (`may_be_in_call`), and answers the rest.
Result<std::vector<NativeShares::Seen>> NativeShares::still_in_call(const manager::Share& share,
                                                                    std::vector<Seen> threads,
                                                                    bool (*may_be_in_call)(pid_t)) const {
  if (threads.empty()) return threads;
  const auto outside = TRY(look<std::vector<Seen>>([threads, may_be_in_call] {
    std::vector<Seen> found;
    std::copy_if(threads.begin(), threads.end(), std::back_inserter(found),
                 [&](const Seen& one) { return !may_be_in_call(one.thread); });
    return found;
  }));
  std::erase_if(threads, [&](const Seen& one) {
    const bool is = std::any_of(outside.begin(), outside.end(), [&](const Seen& o) { return o.thread == one.thread; });
    return is && shares_.load()->has_ended(share, one);
  });
  return threads;
}

/// When this has succeeded no caller is between two walks, and each that begins to walk is sent back to the share's
/// name. One that runs has a moment to come out of its call, or to be sent back at its end.
Result<> NativeShares::await_walkers(const manager::Share& share) const {
  fuse::ShareFs& shares = *shares_.load();
  for (const TimePoint until = from_now(kWalkersPatience);; std::this_thread::sleep_for(kLookAgain)) {
    shares.set_overmounting(share, true);
    const bool unseen = shares.has_unseen_callers();
    if (!unseen && TRY(still_in_call(share, shares.walking_in(share), &fuse::may_be_between_walks)).empty()) return {};
    // What waited for the mount at its second path would be waited for here.
    shares.set_overmounting(share, false);
    if (SystemClock().now() >= until) return fail(EAGAIN, "a rename or a link may be under way in it through berth");
  }
}

/// What hangs below the share's directory, and on it, has come there through berth.
Result<> NativeShares::look_for_hidden(const manager::Share& share) const {
  fuse::ShareFs& shares = *shares_.load();
  if (!shares.may_hide(share)) return {};
  shares.set_may_be_watched(share, false);  // until it is asked for the next time
  Result<Hidden> looked = TRY(look<Result<Hidden>>(
      [keeper = setup_.keeper, directory = setup_.directory] { return find_hidden(keeper, directory); }));
  const Hidden found = TRY(std::move(looked));
  const auto mount = std::find_if(found.mounts.begin(), found.mounts.end(),
                                  [&](const Hidden::Mount& one) { return one.path.starts_with(share.name() + "/"); });
  if (mount != found.mounts.end()) {
    // The name of a directory is for the users that may see it.
    const std::string at = mount->is_hosts ? "at " + quote(mount->path) : "in another mount namespace";
    return fail(EBUSY, "something is mounted in it, " + at);
  }
  for (const Hidden::Watch& watch : found.watches) {
    if (watch.node != 0 && !shares.is_in(watch.node, share)) continue;
    const std::string what = watch.node != 0 ? "something in it" : "the namespace";
    return fail(EBUSY, what + " is watched (" + watch.by + ") by process " + std::to_string(watch.process));
  }
  return {};
}

Result<std::uint64_t> NativeShares::ask_to_overmount(const manager::Share& share, int root, TimePoint deadline) {
  UniqueFd mount = TRY(sys::clone_mount(root));
  NativeRequest wanted = request(NativeRequest::Kind::kOvermount, share.name());
  const NativeCall talk = TRY(setup_.agent.ask(wanted, mount));
  crash_point("overmount-asked");
  mount.reset();  // the agent's now; held here it would look used
  const NativeAnswer answer = TRY(talk.expect(deadline));
  MutexLock lock(mutex_);
  overmounts_.insert_or_assign(share.name(), answer.value);
  return answer.unique;
}

/// A caller that was let go on from the share's name, and finds the mount gone again before it has come there, would
/// have to be sent back twice in one system call: its program would hear of it. True: there is none, or not for long.
/// One that comes later still is served by berth.
Result<bool> NativeShares::have_arrived(const manager::Share& share) const {
  const fuse::ShareFs* const shares = shares_;
  if (shares == nullptr) return true;
  for (const TimePoint until = from_now(kWalkersPatience);; std::this_thread::sleep_for(kLookAgain)) {
    const TimePoint now = SystemClock().now();
    std::vector<Seen> lately = shares->passed_in(share);
    std::erase_if(lately, [&](const Seen& one) { return now >= one.last + kLongestWay; });
    if (TRY(still_in_call(share, std::move(lately), &fuse::may_be_walking)).empty()) return true;
    if (now >= until) return false;
  }
}

/// Those that have come there are sent back when they come again after the mount has gone.
void NativeShares::forget_arrived(const manager::Share& share) const {
  const fuse::ShareFs* const shares = shares_;
  if (shares != nullptr) (void)still_in_call(share, shares->passed_in(share), &fuse::may_be_walking);
}

Result<manager::NativeAccess::Outcome> NativeShares::remove_overmount(const manager::Share& share, When when,
                                                                      TimePoint deadline) {
  return remove_overmount_of(share.name(), &share, when, deadline);
}

Result<manager::NativeAccess::Outcome> NativeShares::remove_unknown_overmount(const std::string& name, When when,
                                                                              TimePoint deadline) {
  return remove_overmount_of(name, nullptr, when, deadline);
}

Result<manager::NativeAccess::Outcome> NativeShares::remove_overmount_of(const std::string& name,
                                                                         const manager::Share* share, When when,
                                                                         TimePoint deadline) {
  NativeRequest wanted = request(NativeRequest::Kind::kRemove, name);
  wanted.when = when;
  {
    MutexLock lock(mutex_);
    const auto overmounted = overmounts_.find(name);
    if (overmounted == overmounts_.end()) return Outcome::kOff;
    wanted.overmount_id = overmounted->second;
  }
  const bool arrived = share == nullptr || have_arrived(*share).value_or(false);
  if (when != When::kAlways && !arrived) {
    return when == When::kUntouched ? Outcome::kTouched : Outcome::kInUse;
  }
  if (share != nullptr) forget_arrived(*share);
  Result<NativeAnswer> answer = fail(ECONNRESET);
  // A repeated request gets the same answer, however far an agent came that has been killed.
  for (int tries = 0; tries < kTries && !answer && has_died(answer.error()); ++tries) {
    const Result<NativeCall> talk = setup_.agent.ask(wanted);
    crash_point("removal-asked");
    answer = talk ? talk->expect(deadline) : fail(talk.error());
  }
  if (!answer && has_died(answer.error()) && is_last_agent_) return Outcome::kOff;
  const auto outcome = static_cast<Outcome>(TRY(std::move(answer)).value);
  if (outcome == Outcome::kOff) {
    // Another incarnation of the share may have been overmounted meanwhile.
    MutexLock lock(mutex_);
    const auto overmounted = overmounts_.find(name);
    if (overmounted != overmounts_.end() && overmounted->second == wanted.overmount_id) overmounts_.erase(overmounted);
  }
  return outcome;
}

Result<std::vector<std::string>> NativeShares::find_holders(const std::vector<Unmounted>& shares) {
  const std::vector<std::string> not_known(
      shares.size(), "whether a process still has it mounted is not known: a process cannot be looked at");
  // A process may hold up the thread that looks at it for as long as it likes. One thread at a time is risked.
  if (holders_looks_->exchange(true)) return not_known;
  using Holders = Result<std::vector<std::string>>;
  std::shared_ptr<void> one(nullptr, [looks = holders_looks_](void*) { looks->store(false); });
  const auto found =
      look<Holders>([keeper = setup_.keeper, directory = setup_.directory, shares, one = std::move(one)]() mutable {
        Holders holders = daemon::find_holders(keeper, directory, shares);
        one.reset();
        return holders;
      });
  return found ? *found : not_known;
}

Result<manager::NativeAccess::Users> NativeShares::count_users(const std::vector<std::uint64_t>& overmounts) {
  const UserLooks::Found found = user_looks_.look(overmounts, kCountPatience);
  const std::vector<uid_t>& unseen = found.unseen;
  // What the superuser's processes are in is known, or nothing is.
  if (std::find(unseen.begin(), unseen.end(), 0) != unseen.end())
    return fail(EAGAIN, "there are too many processes to look at");
  Users users;
  for (const UsersOfMounts::In& in : found.all.in) users.in.push_back(in.processes);
  users.unseen = found.text_of_unseen();
  return users;
}

UserLooks::Found NativeShares::look_at_users(const std::vector<std::uint64_t>& overmounts) {
  return user_looks_.look(overmounts, kLookPatience, kShownOfOne, kShown);
}

}  // namespace berth::daemon
