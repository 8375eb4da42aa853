#include "src/daemon/native/native_agent.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "src/daemon/common/background.h"
#include "src/daemon/common/namespace_mount.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/mount_table.h"

namespace berth::daemon {
namespace {

/// An agent that has lived shorter than this so many times in a row is not started again.
constexpr std::chrono::seconds kShortLife{1};
constexpr int kMostShortLives = 10;

using Outcome = manager::NativeAccess::Outcome;

/// The namespace's root, from which everything else is walked: a walk through the directory's path could set off an
/// automount, where the namespace has been on one and is gone. As it stands this does not (path_resolution(7)): O_DIRECTORY
/// would. Errors: ESTALE when it is not mounted there, or is covered.
Result<UniqueFd> open_namespace(const NativeRequest& request) {
  UniqueFd root = TRY(sys::open_at(AT_FDCWD, request.directory.c_str(), O_PATH | O_NOFOLLOW));
  if (TRY(mount_id_at(root.get(), "")) != request.namespace_mount) {
    return fail(ESTALE, "the namespace is not what is mounted at " + quote(request.directory));
  }
  return root;
}

/// The share's own directory. Errors: EBUSY when something is mounted there.
Result<UniqueFd> open_directory_of_share(int root, const std::string& share) {
  Result<UniqueFd> directory = sys::open_in_mount(root, share.c_str(), O_PATH | O_DIRECTORY);
  if (!directory && directory.error().code() == EXDEV) {
    return fail(EBUSY, "something is mounted over the share's directory");
  }
  return directory;
}

std::string path_of(int root, const std::string& share) { return sys::proc_path(root) + "/" + share; }

/// Ready; and when told to go on, lays it over. The descriptors are let go of before the last answer: they would make it
/// look used.
Result<> lay(const NativeRequest& request, UniqueFd mount, const NativeTalk& talk) {
  const std::uint64_t id = TRY(sys::mount_id(mount.get()));
  const UniqueFd root = TRY(open_namespace(request));
  {
    const UniqueFd directory = TRY(open_directory_of_share(root.get(), request.share));
    if (!talk.answer({}) || !talk.await_go_on()) return fail(ECANCELED);
    TRY_VOID(sys::attach_mount_at(mount.get(), directory.get()));
  }
  mount.reset();
  // Who has given up waiting does not know that it is there.
  if (!talk.answer({.value = id})) return sys::unmount(path_of(root.get(), request.share), MNT_DETACH);
  if (!talk.await_go_on()) return {};
  // The name has been doubted while it was laid over: this makes the kernel ask, so that it may remember it again.
  static_cast<void>(sys::open_at(root.get(), request.share.c_str(), O_PATH));
  return {};
}

int flags_for(manager::NativeAccess::When when) noexcept {
  switch (when) {
    case manager::NativeAccess::When::kUntouched:
      return MNT_EXPIRE;
    case manager::NativeAccess::When::kUnused:
      return 0;
    case manager::NativeAccess::When::kAlways:
      return MNT_DETACH;
  }
  return 0;
}

Result<Outcome> take(const NativeRequest& request) {
  const std::string path = request.directory + "/" + request.share;
  const std::vector<sys::MountEntry> table = TRY(sys::read_mount_table());
  const auto laid = std::find_if(table.begin(), table.end(),
                                 [&](const sys::MountEntry& entry) { return entry.id == request.laid_mount; });
  if (laid == table.end() || laid->target != path) return Outcome::kOff;
  const bool covered =
      std::any_of(laid + 1, table.end(), [&](const sys::MountEntry& entry) { return entry.target == path; });
  if (covered) return Outcome::kInUse;
  const UniqueFd root = TRY(open_namespace(request));
  const Result<> taken = sys::unmount(path_of(root.get(), request.share), flags_for(request.when));
  if (taken) return Outcome::kOff;
  switch (taken.error().code()) {
    case EAGAIN:
      return Outcome::kTouched;
    case EBUSY:
      return Outcome::kInUse;
    case EINVAL:  // somebody else has been quicker
      return Outcome::kOff;
    default:
      return fail(taken.error());
  }
}

Result<> list(const NativeRequest& request, const NativeTalk& talk) {
  const std::uint64_t parent = [&]() -> Result<std::uint64_t> {
    const UniqueFd root = TRY(open_namespace(request));
    return sys::mount_id(root.get());
  }()
                                            .value_or(0);
  if (parent == 0) return {};
  for (const sys::MountEntry& entry : TRY(sys::read_mount_table())) {
    if (entry.parent != parent || !entry.target.starts_with(request.directory + "/")) continue;
    if (!talk.answer({.value = entry.id, .text = entry.target.substr(request.directory.size() + 1)})) break;
  }
  return {};
}

void handle(NativeChannel::Received received);

/// The next request. False when there is none any more.
bool receive(const NativeChannel& channel, std::optional<NativeChannel::Received>& next) {
  for (;;) {
    Result<NativeChannel::Received> received = channel.receive();
    if (received) {
      next.emplace(*std::move(received));
      return true;
    }
    if (received.error().code() != EINTR && received.error().code() != EBADMSG) return false;
  }
}

/// In this process: a fork for each of hundreds of shares is what makes them dear.
void handle_many(NativeTalk talk) {
  const NativeChannel channel = NativeChannel::adopt(std::move(talk));
  for (std::optional<NativeChannel::Received> next; receive(channel, next);) handle(*std::move(next));
}

void handle(NativeChannel::Received received) {
  const NativeRequest& request = received.request;
  if (request.kind == NativeRequest::Kind::kMany) return handle_many(std::move(received.talk));
  const Error failure = [&]() -> Error {
    switch (request.kind) {
      case NativeRequest::Kind::kLay: {
        const Result<> laid = lay(request, std::move(received.mount), received.talk);
        return laid ? Error(0) : laid.error();
      }
      case NativeRequest::Kind::kTake: {
        const Result<Outcome> taken = take(request);
        if (taken) received.talk.answer({.value = static_cast<std::uint64_t>(*taken)});
        return taken ? Error(0) : taken.error();
      }
      case NativeRequest::Kind::kList: {
        const Result<> listed = list(request, received.talk);
        return listed ? Error(0) : listed.error();
      }
      case NativeRequest::Kind::kMany:
        break;
    }
    return Error(EINVAL);
  }();
  if (failure.code() != 0) received.talk.answer({.code = failure.code(), .text = std::string(failure.story())});
}

[[noreturn]] void run(const NativeChannel& channel) {
  for (std::optional<NativeChannel::Received> next; receive(channel, next); next.reset()) {
    // Where there is no process to be had the talk ends here, which is an answer.
    if (::fork() != 0) continue;
    handle(*std::move(next));
    ::_exit(EXIT_SUCCESS);
  }
  ::_exit(EXIT_SUCCESS);
}

/// Lets go of all that the parent had open, so that nothing lives longer because of the agent.
void keep_only(int fd) {
  const auto kept = static_cast<unsigned>(fd);
  if (kept > 3) ::close_range(3, kept - 1, 0);
  ::close_range(kept + 1, ~0U, 0);
}

}  // namespace

Result<NativeAgent> NativeAgent::start() {
  auto [servers_end, agents_end] = TRY(NativeChannel::make_pair());
  NativeAgent agent(std::move(servers_end), std::move(agents_end));
  TRY_VOID(agent.fork_agent());
  return agent;
}

NativeAgent NativeAgent::adopt(NativeChannel servers_end, NativeChannel agents_end, pid_t pid) noexcept {
  NativeAgent agent(std::move(servers_end), std::move(agents_end));
  agent.pid_ = pid;
  agent.started_ = SystemClock().now();
  return agent;
}

NativeAgent::NativeAgent(NativeChannel servers_end, NativeChannel agents_end) noexcept
    : servers_end_(std::move(servers_end)), agents_end_(std::move(agents_end)) {}

Result<> NativeAgent::fork_agent() {
  const pid_t child = ::fork();
  if (child < 0) return fail(Error::last().within("cannot start the agent for native access"));
  if (child > 0) {
    pid_ = child;
    started_ = SystemClock().now();
    return {};
  }
  // Of a server, if there is one already, everything: to hold a mount's directory is to use it.
  keep_only(agents_end_.fd());
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::signal(SIGCHLD, SIG_IGN);  // nobody collects the children
  ::setsid();
  ::prctl(PR_SET_NAME, "berth-agent");
  if (::chdir("/") != 0) ::_exit(EXIT_FAILURE);
  let_go_of_terminal();
  run(agents_end_);
}

void NativeAgent::on_ended(pid_t child) {
  if (child != pid_) return;
  pid_ = -1;
  short_lives_ = SystemClock().now() - started_ < kShortLife ? short_lives_ + 1 : 0;
  if (short_lives_ >= kMostShortLives) {
    return log::error("the agent for native access does not live: shares stay as they are");
  }
  log::warning("the agent for native access has died: starting it again");
  if (const Result<> started = fork_agent(); !started) log::error("{}", started.error().message());
}

}  // namespace berth::daemon
