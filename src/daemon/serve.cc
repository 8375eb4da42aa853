#include "src/daemon/serve.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

#include "src/base/clock.h"
#include "src/base/text.h"
#include "src/daemon/background.h"
#include "src/daemon/link.h"
#include "src/daemon/namespace_mount.h"
#include "src/daemon/server.h"
#include "src/sys/file.h"
#include "src/sys/memory.h"

namespace berth::daemon {
namespace {

void complain(const std::string& message) { std::fprintf(stderr, "berth: serve: %s\n", message.c_str()); }

int exit_code_of(const Error& error) {
  switch (error.code()) {
    case EACCES:
    case EPERM:
      return kExitNoPermission;
    case EINVAL:
      return kExitConfiguration;
    default:
      return kExitUnavailable;
  }
}

Result<config::Configuration> read_configuration(const ServeOptions& options) {
  config::Configuration configuration =
      TRY(options.config.empty() ? config::default_configuration(options.command_line)
                                 : config::load(options.config, options.command_line));
  if (configuration.settings.namespace_directory.empty()) {
    return fail(EINVAL,
                "no namespace directory: give --namespace DIR, or set namespace = \"/volumes\" under [berth] in the "
                "configuration");
  }
  return configuration;
}

/// The directory on which each server mounts its private tmpfs. Held by a shared lock as long as anybody needs it, for
/// removing a directory takes off what other mount namespaces have mounted on it.
class RunDirectory {
 public:
  static Result<RunDirectory> hold() {
    for (;;) {
      if (::mkdir(kBerthDirectory, 0700) != 0 && errno != EEXIST) {
        return fail(Error::last().within(std::string("cannot make ") + kBerthDirectory));
      }
      Result<UniqueFd> directory = sys::open_at(AT_FDCWD, kBerthDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!directory && directory.error().code() == ENOENT) continue;
      if (!directory) return fail(directory.error().within(kBerthDirectory));
      struct stat mine {};
      struct stat named {};
      if (::flock(directory->get(), LOCK_SH) != 0 || ::fstat(directory->get(), &mine) != 0) return fail_errno();
      // Somebody may have removed it between open and lock.
      if (::stat(kBerthDirectory, &named) == 0 && named.st_ino == mine.st_ino)
        return RunDirectory(std::move(*directory));
    }
  }
  /// Removes it if nobody else holds it.
  void remove() const noexcept {
    if (::flock(directory_.get(), LOCK_EX | LOCK_NB) == 0) ::rmdir(kBerthDirectory);
  }

 private:
  explicit RunDirectory(UniqueFd directory) noexcept : directory_(std::move(directory)) {}
  UniqueFd directory_;
};

/// How long a server may take to end that was told to stop at once, before it is killed.
constexpr std::chrono::seconds kForcePatience{5};

/// The keeper's part after the server has been started: two signals, two messages, one child.
class Keeper {
 public:
  Keeper(std::string directory, std::uint64_t mount_id, Link link, pid_t server, Background& background)
      : directory_(std::move(directory)),
        mount_id_(mount_id),
        link_(std::move(link)),
        server_(server),
        background_(background) {}

  /// Until the server has ended; its exit code.
  int run(int signals) {
    for (;;) {
      std::array<pollfd, 2> ready{{{signals, POLLIN, 0}, {link_ended_ ? -1 : link_.fd(), POLLIN, 0}}};
      if (::poll(ready.data(), ready.size(), milliseconds_to_work()) < 0) continue;
      if (ready[1].revents != 0) on_message();
      tell_status();
      kill_if_overdue();
      if (ready[0].revents == 0) continue;
      signalfd_siginfo info{};
      if (::read(signals, &info, sizeof info) != static_cast<ssize_t>(sizeof info)) continue;
      if (info.ssi_signo == static_cast<std::uint32_t>(SIGCHLD)) {
        int status = 0;
        if (::waitpid(server_, &status, WNOHANG) == server_) return on_server_ended(status);
      } else {
        on_stop_signal(static_cast<int>(info.ssi_signo));
      }
    }
  }

 private:
  void on_message() {
    const Result<std::optional<Message>> message = link_.receive();
    if (!message) return;
    if (!*message) {
      link_ended_ = true;  // SIGCHLD tells the rest
      return;
    }
    const Message& said = **message;
    if (said.kind == Message::Kind::kReady) {
      log::info("serving {} shares at {}", said.shares, quote(directory_));
      ::sd_notify(0, "READY=1");
      background_.ready();
    }
    counts_ = said;
  }

  /// Until there is something to do without being told; -1: there is not.
  [[nodiscard]] int milliseconds_to_work() const {
    if (kill_at_) return milliseconds_to(*kill_at_);
    return counts_ && !stopping_ ? milliseconds_to(next_status_) : -1;
  }
  static int milliseconds_to(TimePoint time) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - std::chrono::steady_clock::now());
    return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
  }

  /// A server that was told to stop at once, and is stopped or stuck itself.
  void kill_if_overdue() {
    if (!kill_at_ || milliseconds_to(*kill_at_) != 0) return;
    log::error("the server does not end: killing it");
    ::kill(server_, SIGKILL);
    kill_at_ = std::chrono::steady_clock::now() + kForcePatience;
  }

  /// At most once a second: the service manager need not hear of each mount, and a slow one must not hold us up.
  void tell_status() {
    if (!counts_ || stopping_ || milliseconds_to(next_status_) != 0) return;
    ::sd_notifyf(0, "STATUS=serving %s: %u shares, %u mounted", escape(directory_).c_str(), counts_->shares,
                 counts_->mounted);
    counts_.reset();
    next_status_ = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  }

  void on_stop_signal(int signal) {
    if (kill_at_) {
      log::warning("signal {} once more: killing the server", signal);
      ::kill(server_, SIGKILL);
      return;
    }
    if (stopping_) {
      log::warning("signal {} again: stopping at once", signal);
      link_.send({.kind = Message::Kind::kForce});
      kill_at_ = std::chrono::steady_clock::now() + kForcePatience;
      return;
    }
    stopping_ = true;
    log::info("signal {}: stopping; a second one forces", signal);
    ::sd_notify(0, "STOPPING=1\nSTATUS=stopping");
    take_namespace_off();
    link_.send({.kind = Message::Kind::kStop});
  }

  void take_namespace_off() {
    const Result<bool> in_use = unmount_namespace(directory_, mount_id_);
    if (!in_use) log::error("{}", in_use.error().message());
    if (in_use && *in_use) log::info("{} is in use; waiting for its users", quote(directory_));
  }

  int on_server_ended(int status) {
    take_namespace_off();
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    log::error("the server was killed by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
    return kExitOs;
  }

  const std::string directory_;
  const std::uint64_t mount_id_;
  const Link link_;
  const pid_t server_;
  Background& background_;
  bool stopping_ = false;
  bool link_ended_ = false;
  std::optional<Message> counts_;  ///< what the service manager has not been told yet
  TimePoint next_status_{};
  std::optional<TimePoint> kill_at_;  ///< after a second signal
};

Result<UniqueFd> take_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD}) sigaddset(&signals, signal);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return fail_errno();
  UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!fd) return fail_errno();
  return fd;
}

/// Starts the server as the first process of a pid namespace. In the server this does not return.
Result<pid_t> start_server(ServerSetup setup, const Link& keepers_end) {
  if (::unshare(CLONE_NEWPID) != 0) return fail(Error::last().within("cannot make a pid namespace"));
  const pid_t child = ::fork();
  if (child < 0) return fail(Error::last().within("cannot start the server"));
  if (child > 0) return child;
  ::close(keepers_end.fd());  // else the server could not see the keeper's end of the link close
  ::_exit(run_server(std::move(setup)));
}

Result<int> serve_until_stopped(const ServeOptions& options, Background& background) {
  config::Configuration configuration = TRY(read_configuration(options));
  for (const std::string& warning : configuration.warnings) log::warning("{}", warning);
  const std::string directory = TRY(prepare_namespace_directory(configuration.settings.namespace_directory));
  UniqueFd device = TRY(open_fuse_device());
  const RunDirectory run_directory = TRY(RunDirectory::hold());
  const UniqueFd signals = TRY(take_signals());
  auto [keepers_end, servers_end] = TRY(Link::make_pair());
  const std::uint64_t mount_id = TRY(mount_namespace(device.get(), directory));

  ServerSetup setup{std::move(configuration), directory,  mount_id,          std::move(device),
                    std::move(servers_end),   ::getpid(), options.background};
  const Result<pid_t> server = start_server(std::move(setup), keepers_end);
  if (!server) {
    (void)unmount_namespace(directory, mount_id);
    return fail(server.error());
  }
  sys::release_idle_memory();
  const int code = Keeper(directory, mount_id, std::move(keepers_end), *server, background).run(signals.get());
  run_directory.remove();
  return code;
}

}  // namespace

int serve(const ServeOptions& options) {
  log::start(options.log_level);
  Background background;
  if (options.background) {
    const Result<std::optional<int>> callers = background.split();
    if (!callers) {
      complain(callers.error().message());
      return kExitOs;
    }
    if (*callers) return **callers;
  }
  const Result<int> code = serve_until_stopped(options, background);
  if (code) return *code;
  // A wrong configuration is told line by line; the code would only blur it.
  complain(code.error().code() == EINVAL && !code.error().story().empty() ? std::string(code.error().story())
                                                                          : code.error().message());
  return exit_code_of(code.error());
}

}  // namespace berth::daemon
