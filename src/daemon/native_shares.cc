#include "src/daemon/native_shares.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "src/sys/mount.h"

namespace berth::daemon {
namespace {

/// How long everybody is given to move on before it is tried again later, and how long who walks to the share waits for
/// the few that have passed.
constexpr std::chrono::milliseconds kApproachPatience{100};
constexpr std::chrono::milliseconds kHoldPatience{10};

TimePoint from_now(std::chrono::milliseconds time) { return SystemClock().now() + time; }

}  // namespace

void NativeShares::serve(fuse::Namespace& names, fuse::Session& session) noexcept {
  names_ = &names;
  session_ = &session;
}

NativeRequest NativeShares::request(NativeRequest::Kind kind, const std::string& share) const {
  NativeRequest request;
  request.kind = kind;
  request.namespace_mount = setup_.namespace_mount;
  request.directory = setup_.directory;
  request.share = share;
  return request;
}

Result<std::vector<std::string>> NativeShares::adopt(TimePoint deadline) {
  const NativeTalk talk = TRY(setup_.agent.ask(request(NativeRequest::Kind::kList, "")));
  std::vector<std::string> names;
  while (std::optional<NativeAnswer> answer = TRY(talk.next(deadline))) {
    if (answer->code != 0) return fail(answer->code, std::move(answer->text));
    MutexLock lock(mutex_);
    laid_.insert_or_assign(answer->text, answer->value);
    names.push_back(std::move(answer->text));
  }
  return names;
}

Result<> NativeShares::lay_over(const manager::Share& share, int root, TimePoint deadline) {
  if (names_ == nullptr) return fail(EAGAIN);
  Result<> laid = approach(share);
  if (laid) laid = ask_to_lay(share, root, deadline);
  if (!laid && laid.error().code() == EAGAIN)
    return laid;  // the name stays doubted: the next attempt is half way there
  {
    MutexLock lock(mutex_);
    approached_.erase(share.name());
  }
  names_->release_name(share);
  return laid;
}

Result<> NativeShares::expire(const manager::Share& share) {
  const std::optional<fuse::Namespace::Place> place = names_->place_of(share);
  if (!place) return {};
  return session_->expire_entry(place->directory, place->name);
}

/// Everybody who may be between two walks, or brings the kernel an answer that it would remember, moves on.
Result<> NativeShares::approach(const manager::Share& share) {
  Walkers walkers;
  bool is_new = false;
  {
    MutexLock lock(mutex_);
    const auto [found, inserted] = approached_.try_emplace(share.name());
    is_new = inserted;
    walkers = std::move(found->second);
  }
  if (is_new) {
    names_->held_names().doubt(share.name());
    TRY_VOID(expire(share));
    walkers = Walkers::all();
  }
  const bool moved_on = walkers.have_moved_on(from_now(kApproachPatience));
  MutexLock lock(mutex_);
  approached_[share.name()] = std::move(walkers);
  if (!moved_on) return fail(EAGAIN);
  return {};
}

Result<> NativeShares::ask_to_lay(const manager::Share& share, int root, TimePoint deadline) {
  UniqueFd mount = TRY(sys::clone_mount(root));
  const NativeTalk talk = TRY(setup_.agent.ask(request(NativeRequest::Kind::kLay, share.name()), mount));
  mount.reset();  // the agent's now; held here it would look used
  static_cast<void>(TRY(talk.expect(deadline)));
  // Before anybody waits: some wait with the directory's lock held, which this needs.
  TRY_VOID(expire(share));
  Result<> switched = switch_over(share, talk, deadline);
  if (!switched) {
    names_->let_pass(share);
    return switched;
  }
  names_->release_name(share);
  return talk.go_on();
}

/// The moment itself: nobody passes the share's name.
Result<> NativeShares::switch_over(const manager::Share& share, const NativeTalk& talk, TimePoint deadline) {
  fuse::HeldNames& names = names_->held_names();
  names.hold(share.name());
  const std::vector<pid_t> threads = names.take_passed(share.name());
  const bool all_known = std::find(threads.begin(), threads.end(), 0) == threads.end();
  Walkers passed(threads);
  if (!passed.have_moved_on(from_now(kHoldPatience)) || !all_known) {
    MutexLock lock(mutex_);
    approached_[share.name()] = std::move(passed);
    return fail(EAGAIN);
  }
  const std::vector<pid_t> waiting = names.waiting(share.name());
  if (std::any_of(waiting.begin(), waiting.end(), may_walk_twice)) return fail(EAGAIN);
  TRY_VOID(talk.go_on());
  const NativeAnswer laid = TRY(talk.expect(deadline));
  MutexLock lock(mutex_);
  laid_.insert_or_assign(share.name(), laid.value);
  return {};
}

Result<manager::NativeAccess::Outcome> NativeShares::take_off(const manager::Share& share, When when,
                                                              TimePoint deadline) {
  NativeRequest wanted = request(NativeRequest::Kind::kTake, share.name());
  wanted.when = when;
  {
    MutexLock lock(mutex_);
    const auto laid = laid_.find(share.name());
    if (laid == laid_.end()) return Outcome::kOff;
    wanted.laid_mount = laid->second;
  }
  const NativeTalk talk = TRY(setup_.agent.ask(wanted));
  const auto outcome = static_cast<Outcome>(TRY(talk.expect(deadline)).value);
  if (outcome == Outcome::kOff) {
    MutexLock lock(mutex_);
    laid_.erase(share.name());
  }
  return outcome;
}

}  // namespace berth::daemon
