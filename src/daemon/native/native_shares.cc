#include "src/daemon/native/native_shares.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "src/lib/sys/mount.h"

namespace berth::daemon {
namespace {

/// How long everybody is given to move on before it is tried again later, and how long who walks to the share waits for
/// the few that have passed.
constexpr std::chrono::milliseconds kApproachPatience{100};
constexpr std::chrono::milliseconds kHoldPatience{10};
constexpr int kTakeTries = 3;

bool has_died(const Error& agents) noexcept { return agents.code() == ECONNRESET || agents.code() == EPIPE; }

/// A program that writes a file may look whether its path still leads to it (SQLite: does not write any more if not).
bool has_writers(const manager::Share& share) noexcept { return share.writers() > 0; }

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
  Result<> laid = has_writers(share) ? fail(EAGAIN) : approach(share);
  if (laid) laid = ask_to_lay(share, root, deadline);
  if (!laid && laid.error().code() == EAGAIN && !has_writers(share))
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

void NativeShares::begin_batch(const std::vector<const manager::Share*>& shares) {
  if (names_ == nullptr) return;
  // Without it each request is a process of its own.
  if (Result<NativeTalk> talk = setup_.agent.ask(request(NativeRequest::Kind::kMany, ""))) {
    batch_ = NativeChannel::adopt(*std::move(talk));
  }
  const auto approach = std::make_shared<Approach>();
  for (const manager::Share* const share : shares) {
    if (has_writers(*share)) continue;
    {
      MutexLock lock(mutex_);
      if (!approached_.try_emplace(share->name(), approach).second) continue;
    }
    names_->held_names().doubt(share->name());
    approach->remembered.push_back(share);
  }
  if (!approach->remembered.empty()) approach->walkers = Walkers::all();
}

void NativeShares::end_batch() { batch_.reset(); }

Result<NativeTalk> NativeShares::ask_in_batch(const NativeRequest& request, const UniqueFd& mount) {
  if (batch_) {
    Result<NativeTalk> talk = batch_->ask(request, mount);
    if (talk) return talk;
    batch_.reset();  // it has been killed
  }
  return setup_.agent.ask(request, mount);
}

/// Who brings the kernel an answer that it remembers moves on, that is forgotten, and who may be between two walks moves on.
Result<> NativeShares::approach(const manager::Share& share) {
  const std::shared_ptr<Approach> approach = [&] {
    MutexLock lock(mutex_);
    const auto found = approached_.find(share.name());
    return found != approached_.end() ? found->second : nullptr;
  }();
  if (approach == nullptr) return fail(EAGAIN);
  if (!approach->walkers.have_moved_on(from_now(kApproachPatience))) return fail(EAGAIN);
  if (approach->remembered.empty()) return {};
  for (const manager::Share* const doubted : approach->remembered) TRY_VOID(expire(*doubted));
  approach->remembered.clear();
  approach->walkers = Walkers::all();
  return approach->walkers.have_moved_on(from_now(kApproachPatience)) ? Result<>() : fail(EAGAIN);
}

Result<> NativeShares::ask_to_lay(const manager::Share& share, int root, TimePoint deadline) {
  UniqueFd mount = TRY(sys::clone_mount(root));
  const NativeTalk talk = TRY(ask_in_batch(request(NativeRequest::Kind::kLay, share.name()), mount));
  mount.reset();  // the agent's now; held here it would look used
  const Result<NativeAnswer> ready = talk.expect(deadline);
  if (!ready) return has_died(ready.error()) ? fail(EAGAIN) : fail(ready.error());
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
  const auto is_bad_moment = [&](Walkers until) {
    MutexLock lock(mutex_);
    approached_[share.name()] = std::make_shared<Approach>(Approach{.walkers = std::move(until)});
    return fail(EAGAIN);
  };
  if (!passed.have_moved_on(from_now(kHoldPatience)) || !all_known) return is_bad_moment(std::move(passed));
  Walkers waiting(names.waiting(share.name()));
  if (!waiting.walk_once(from_now(kHoldPatience))) return is_bad_moment(std::move(waiting));
  // Whoever has passed has opened by now what he came for.
  if (has_writers(share) || !talk.go_on()) return fail(EAGAIN);
  const Result<NativeAnswer> laid = talk.expect(deadline);
  if (!laid && has_died(laid.error())) return find_laid(share, deadline);
  if (!laid) return fail(laid.error());
  MutexLock lock(mutex_);
  laid_.insert_or_assign(share.name(), laid->value);
  return {};
}

/// Of one who has died nobody knows how far he came. Nothing lay over the share when he said that he was ready.
Result<> NativeShares::find_laid(const manager::Share& share, TimePoint deadline) {
  const NativeTalk talk = TRY(setup_.agent.ask(request(NativeRequest::Kind::kList, "")));
  while (std::optional<NativeAnswer> answer = TRY(talk.next(deadline))) {
    if (answer->code != 0 || answer->text != share.name()) continue;
    MutexLock lock(mutex_);
    laid_.insert_or_assign(share.name(), answer->value);
    return {};
  }
  return fail(EAGAIN);
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
  Result<NativeAnswer> answer = fail(ECONNRESET);
  // Asked again it says the same, however far one came who has been killed.
  for (int tries = 0; tries < kTakeTries && !answer && has_died(answer.error()); ++tries) {
    const NativeTalk talk = TRY(setup_.agent.ask(wanted));
    answer = talk.expect(deadline);
  }
  const auto outcome = static_cast<Outcome>(TRY(std::move(answer)).value);
  if (outcome == Outcome::kOff) {
    MutexLock lock(mutex_);
    laid_.erase(share.name());
  }
  return outcome;
}

}  // namespace berth::daemon
