#include "src/daemon/native/native_agent.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/daemon/common/background.h"
#include "src/daemon/common/namespace_mount.h"
#include "src/daemon/common/privileges.h"
#include "src/daemon/native/overmount_table.h"
#include "src/daemon/native/use_watch.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/inherited.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/thread.h"

namespace berth::daemon {
namespace {

/// An agent that has lived shorter than this so many times in a row is not started again.
constexpr std::chrono::seconds kShortLife{1};
constexpr int kMostShortLives = 10;

using Outcome = manager::NativeAccess::Outcome;

/// The namespace's root, from which everything else is walked: a walk through the directory's path could set off an
/// automount, where the namespace has been on one and is gone. As it stands this does not (path_resolution(7)):
/// O_DIRECTORY would. Errors: ESTALE when it is not mounted there, or is covered.
Result<UniqueFd> open_namespace(const NativeRequest& request) {
  UniqueFd root = TRY(sys::open_at(AT_FDCWD, request.directory.c_str(), O_PATH | O_NOFOLLOW));
  if (TRY(mount_id_at(root.get(), "")) != request.namespace_mount) {
    return fail(ESTALE, "the namespace is not what is mounted at " + quote(request.directory));
  }
  return root;
}

std::string path_of(int root, const std::string& share) { return sys::proc_path(root) + "/" + share; }

/// The mount on the share's directory if it shows the same directory as `mount`: an earlier agent has got that far.
/// Errors: EBUSY when it is something else.
Result<UniqueFd> find_overmount(int root, const std::string& share, int mount) {
  UniqueFd top = TRY(sys::open_at(root, share.c_str(), O_PATH));
  const struct statx there = TRY(sys::stat_at(top.get(), "", STATX_INO, AT_STATX_DONT_SYNC));
  const struct statx ours = TRY(sys::stat_at(mount, "", STATX_INO, AT_STATX_DONT_SYNC));
  const bool is_same = there.stx_ino == ours.stx_ino && there.stx_dev_major == ours.stx_dev_major &&
                       there.stx_dev_minor == ours.stx_dev_minor;
  if (!is_same) return fail(EBUSY, "something is mounted on its directory");
  return top;
}

/// Overmounts the share and answers. The descriptors are closed before the answer: with them the mount would look used.
Result<> overmount(const NativeRequest& request, UniqueFd mount, const NativeCall& talk, UseWatch& uses) {
  uses.forget(request.share);
  const UniqueFd root = TRY(open_namespace(request));
  Result<UniqueFd> directory = sys::open_in_mount(root.get(), request.share.c_str(), O_PATH | O_DIRECTORY);
  if (!directory && directory.error().code() == EXDEV) {
    mount = TRY(find_overmount(root.get(), request.share, mount.get()));
  } else {
    const UniqueFd at = TRY(std::move(directory));
    crash_point("agent-overmounts");
    TRY_VOID(sys::attach_mount_at(mount.get(), at.get()));
    crash_point("agent-overmounted");
  }
  const NativeAnswer answer{.value = TRY(sys::mount_id(mount.get())), .unique = TRY(mount_id_at(mount.get(), ""))};
  mount.reset();
  // A server that has given up waiting does not know about the overmount.
  if (!talk.answer(answer)) return sys::unmount(path_of(root.get(), request.share), MNT_DETACH);
  return {};
}

/// For kUntouched. Without a UseWatch the kernel decides, by all walks since it has marked the mount.
int flags_by_use(int root, const std::string& share, UseWatch& uses) {
  if (!uses.is_supported()) return MNT_EXPIRE;
  // To open it is to touch it: a mark of the kernel's would be gone.
  const Result<UniqueFd> top = sys::open_at(root, share.c_str(), O_PATH | O_NOFOLLOW);
  const Result<std::uint64_t> mount = top ? mount_id_at(top->get(), "") : fail(top.error());
  if (!mount) return MNT_EXPIRE;
  if (uses.is_unused(share, *mount)) return 0;
  uses.arm(share, *mount, top->get());
  return MNT_EXPIRE;
}

int flags_for(const NativeRequest& request, int root, UseWatch& uses) {
  switch (request.when) {
    case manager::NativeAccess::When::kUntouched:
      return flags_by_use(root, request.share, uses);
    case manager::NativeAccess::When::kUnused:
      return 0;
    case manager::NativeAccess::When::kAlways:
      return MNT_DETACH;
  }
  return 0;
}

Result<Outcome> remove(const NativeRequest& request, OvermountTable& overmounts, UseWatch& uses) {
  const std::string path = request.directory + "/" + request.share;
  const auto there = TRY(overmounts.look(request.overmount_id, path, request.directory));
  if (there == OvermountTable::There::kGone) return Outcome::kOff;
  if (there == OvermountTable::There::kCovered) return Outcome::kInUse;
  const UniqueFd root = TRY(open_namespace(request));
  const Result<> taken = sys::unmount(path_of(root.get(), request.share), flags_for(request, root.get(), uses));
  crash_point("agent-removed");
  if (taken) return Outcome::kOff;
  switch (taken.error().code()) {
    case EAGAIN:
      return Outcome::kTouched;
    case EBUSY:
      return Outcome::kInUse;
    case EINVAL:  // another process has been faster,
    case ENOENT:  // and its name is gone
      return Outcome::kOff;
    default:
      return fail(taken.error());
  }
}

Result<Outcome> take(const NativeRequest& request, OvermountTable& overmounts, UseWatch& uses) {
  Result<Outcome> outcome = remove(request, overmounts, uses);
  // A program that is in it uses it, so the time without a use begins anew.
  if (outcome && *outcome != Outcome::kTouched) uses.forget(request.share);
  return outcome;
}

Result<> list(const NativeRequest& request, const NativeCall& talk) {
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

void handle(NativeChannel::Received received, OvermountTable& overmounts, UseWatch& uses) {
  const NativeRequest& request = received.request;
  const Error failure = [&]() -> Error {
    switch (request.kind) {
      case NativeRequest::Kind::kOvermount: {
        const Result<> overmounted = overmount(request, std::move(received.mount), received.talk, uses);
        return overmounted ? Error(0) : overmounted.error();
      }
      case NativeRequest::Kind::kRemove: {
        const Result<Outcome> taken = take(request, overmounts, uses);
        if (taken) received.talk.answer({.value = static_cast<std::uint64_t>(*taken)});
        return taken ? Error(0) : taken.error();
      }
      case NativeRequest::Kind::kList: {
        const Result<> listed = list(request, received.talk);
        return listed ? Error(0) : listed.error();
      }
    }
    return Error(EINVAL);
  }();
  if (failure.code() != 0) received.talk.answer({.code = failure.code(), .text = std::string(failure.story())});
}

/// Threads that serve: there is always one that waits for the next request, so that one that hangs holds up no other.
class Crew {
 public:
  explicit Crew(const NativeChannel& channel) noexcept : channel_(channel) {}

  /// Until there are no requests any more.
  void serve(bool may_leave = false) {
    for (;;) {
      Result<NativeChannel::Received> received = channel_.receive();
      if (!received && (received.error().code() == EINTR || received.error().code() == EBADMSG)) continue;
      if (!received) return;
      if (--waiting_ == 0) call_another();
      handle(*std::move(received), overmounts_, uses_);
      if (++waiting_ > kMostWaiting && may_leave && leave()) return;
    }
  }

 private:
  static constexpr int kMostWaiting = 4;

  void call_another() {
    ++waiting_;
    Result<std::thread> another = sys::start_thread("berth-agent", [this] { serve(true); });
    if (another) return another->detach();
    --waiting_;  // this one is back soon
  }
  /// False when others have left meanwhile.
  bool leave() {
    if (--waiting_ >= kMostWaiting) return true;
    ++waiting_;
    return false;
  }

  const NativeChannel& channel_;
  OvermountTable overmounts_;
  UseWatch uses_;
  std::atomic<int> waiting_{1};
};

/// Closes all that the parent has open, so that nothing lives longer because of the agent. The table is shared with the
/// parent: files of shares are not copied to be closed, which may wait for their servers (spawn_program.cc).
void keep_only(int fd) {
  const auto kept = static_cast<unsigned>(fd);
  ::close_range(std::max<unsigned>(kept + 1, sys::kCopiedDescriptors), ~0U, CLOSE_RANGE_UNSHARE);
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

NativeAgent NativeAgent::take_over(NativeChannel servers_end, NativeChannel agents_end, pid_t pid) noexcept {
  NativeAgent agent(std::move(servers_end), std::move(agents_end));
  agent.pid_ = pid;
  agent.started_ = SystemClock().now();
  return agent;
}

NativeAgent::NativeAgent(NativeChannel servers_end, NativeChannel agents_end) noexcept
    : servers_end_(std::move(servers_end)), agents_end_(std::move(agents_end)) {}

Result<> NativeAgent::fork_agent() {
  clone_args arguments{};
  arguments.flags = CLONE_FILES;  // keep_only()
  arguments.exit_signal = SIGCHLD;
  const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child < 0) return fail(Error::last().within("cannot start the agent for native access"));
  if (child > 0) {
    pid_ = static_cast<pid_t>(child);
    started_ = SystemClock().now();
    return {};
  }
  // Of a server, if there is one already, everything: to hold a mount's directory is to use it.
  keep_only(agents_end_.fd());
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::setsid();
  ::prctl(PR_SET_NAME, "berth-agent");
  if (::chdir("/") != 0) ::_exit(EXIT_FAILURE);
  let_go_of_terminal();
  narrow_to(Role::kAgent);
  arm_crash_points();
  Crew(agents_end_).serve();
  ::_exit(EXIT_SUCCESS);
}

void NativeAgent::look_after() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(pid_, &status, WNOHANG | WUNTRACED) != pid_) return;
  if (!WIFSTOPPED(status)) return on_ended();
  log::warning("the agent for native access was stopped (signal {}): continuing it", WSTOPSIG(status));
  ::kill(pid_, SIGCONT);
}

void NativeAgent::on_ended() {
  pid_ = -1;
  short_lives_ = SystemClock().now() - started_ < kShortLife ? short_lives_ + 1 : 0;
  if (short_lives_ >= kMostShortLives) {
    return log::error("the agent for native access does not live: shares stay as they are");
  }
  log::warning("the agent for native access has died: starting it again");
  if (const Result<> started = fork_agent(); !started) log::error("{}", started.error().message());
}

}  // namespace berth::daemon
