#include "src/daemon/native_shares.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "src/sys/mount.h"
#include "src/sys/process.h"

namespace berth::daemon {
namespace {

/// How long after new walkers are held back those that had passed before are given to come to the end of their call, where
/// they do not ask us anything: between its two walks rename(2) does nothing but walk.
constexpr std::chrono::milliseconds kSettle{20};

/// Whether a thread that waits for a look-up may have made another one in the same system call: it would find the first
/// place in the proxy and the second in the real mount, which is EXDEV.
bool may_walk_twice(pid_t thread) {
#ifdef SYS_rename
  constexpr std::array kWalkTwice{SYS_rename, SYS_renameat, SYS_renameat2, SYS_link, SYS_linkat};
#else
  constexpr std::array kWalkTwice{SYS_renameat, SYS_renameat2, SYS_linkat};
#endif
  if (thread == 0) return true;
  const Result<long> call = sys::system_call_of(thread);
  return !call || std::find(kWalkTwice.begin(), kWalkTwice.end(), *call) != kWalkTwice.end();
}

/// Keeps look-ups of a share's name waiting.
class NameHold {
 public:
  NameHold(fuse::Namespace& names, const manager::Share& share) : names_(names), share_(share) {
    names_.held_names().doubt(share_.name());
  }
  ~NameHold() { names_.release_name(share_); }
  NameHold(const NameHold&) = delete;
  NameHold& operator=(const NameHold&) = delete;

  Result<> close(fuse::Session& session) {
    const std::optional<fuse::Namespace::Place> place = names_.place_of(share_);
    // Before any of them waits: some wait with the directory's lock held, which this needs.
    if (place) TRY_VOID(session.expire_entry(place->directory, place->name));
    names_.held_names().hold(share_.name());
    return {};
  }

  [[nodiscard]] bool holds_who_may_walk_twice() const {
    const std::vector<pid_t> waiting = names_.held_names().waiting(share_.name());
    return std::any_of(waiting.begin(), waiting.end(), may_walk_twice);
  }

 private:
  fuse::Namespace& names_;
  const manager::Share& share_;
};

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
  UniqueFd mount = TRY(sys::clone_mount(root));
  const NativeTalk talk = TRY(setup_.agent.ask(request(NativeRequest::Kind::kLay, share.name()), mount));
  mount.reset();  // the agent's now; held here it would look used
  static_cast<void>(TRY(talk.expect(deadline)));
  TRY_VOID(switch_over(share, talk, deadline));
  return talk.go_on();
}

/// The moment itself: nobody passes the share's name while its mount is laid over it.
Result<> NativeShares::switch_over(const manager::Share& share, const NativeTalk& talk, TimePoint deadline) {
  NameHold hold(*names_, share);
  TRY_VOID(hold.close(*session_));
  std::this_thread::sleep_for(kSettle);
  if (hold.holds_who_may_walk_twice()) return fail(EAGAIN);
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
