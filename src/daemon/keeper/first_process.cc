#include "src/daemon/keeper/first_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "src/daemon/common/background.h"
#include "src/daemon/common/privileges.h"
#include "src/lib/base/clock.h"
#include "src/lib/sys/process.h"

namespace berth::daemon {
namespace {

/// How long a server may take everything down after the keeper has died.
constexpr std::chrono::seconds kOrphanPatience{30};
/// How often to look meanwhile whether it is done.
constexpr int kLookAgainMilliseconds = 20;

/// Collects all processes that have ended.
void collect() noexcept {
  while (::waitpid(-1, nullptr, WNOHANG | __WALL) > 0) {
  }
}

/// The server becomes a child of this process once the keeper is dead. kill(2) finds a killed server as long as one of
/// its threads waits for a share that hangs; its thread that does nothing has ended by then.
bool server_lives(const KeptDaemon& record) noexcept {
  const pid_t server = record.server.load();
  if (server == 0) return false;
  const pid_t thread = record.life_thread.load();
  return (thread == 0 ? ::kill(server, 0) : ::tgkill(server, thread, 0)) == 0;
}

void wait_for_keeper(int keeper, int ended) noexcept {
  for (;;) {
    std::array<pollfd, 2> ready{{{keeper, POLLIN, 0}, {ended, POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), -1) < 0) continue;
    if (ready[1].revents != 0) {
      signalfd_siginfo info{};
      while (::read(ended, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      }
      collect();
    }
    if (ready[0].revents != 0) return;
  }
}

[[noreturn]] void run(int keeper, const KeptDaemon& record) noexcept {
  ::prctl(PR_SET_NAME, "berth-first");
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  // It writes nothing, and a program that reads berth's output waits for the last process that could write.
  let_go_of_terminal();
  narrow_to(Role::kFirstProcess);
  const int ended = ::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  wait_for_keeper(keeper, ended);
  const TimePoint deadline = std::chrono::steady_clock::now() + kOrphanPatience;
  for (collect(); server_lives(record) && std::chrono::steady_clock::now() < deadline; collect()) {
    pollfd any{ended, POLLIN, 0};
    ::poll(&any, 1, kLookAgainMilliseconds);
  }
  ::_exit(EXIT_SUCCESS);
}

}  // namespace

Result<pid_t> start_first_process(const KeptDaemon& record) {
  const UniqueFd keeper = TRY(sys::open_process(::getpid()));
  if (::unshare(CLONE_NEWPID) != 0) return fail(Error::last().within("cannot make a pid namespace"));
  const pid_t child = ::fork();
  if (child < 0) return fail(Error::last().within("cannot start the first process of the pid namespace"));
  if (child > 0) return child;
  ::setsid();
  // The FUSE device above all: a process that holds it keeps the connection alive.
  const auto last_kept = static_cast<unsigned>(keeper.get());
  if (last_kept > STDERR_FILENO + 1) ::close_range(STDERR_FILENO + 1, last_kept - 1, 0);
  ::close_range(last_kept + 1, ~0U, 0);
  run(keeper.get(), record);
}

}  // namespace berth::daemon
