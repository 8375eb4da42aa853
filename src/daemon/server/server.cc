#include "src/daemon/server/server.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <span>
#include <thread>

#include "fuse/session/outer_ids.h"
#include "src/daemon/common/background.h"
#include "src/daemon/common/privileges.h"
#include "src/daemon/server/mount_namespace.h"
#include "src/daemon/server/server_core.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/inherited.h"
#include "src/lib/sys/memory.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/thread.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::daemon {
namespace {

/// How long the threads that handle requests may take to end when everything else has.
constexpr std::chrono::milliseconds kChannelPatience{2000};

/// How long requests that are under way may take before the server is ended, where the kernel does not send them again.
/// Less than the keeper's kAnswerPatience.
constexpr std::chrono::seconds kFinishPatience{2};

/// FUSE_NOTIFY_RESEND came with Linux 6.9. Where an older kernel has it as well, an upgrade only takes longer.
bool kernel_resends() noexcept {
  utsname kernel{};
  int major = 0;
  int minor = 0;
  if (::uname(&kernel) != 0 || std::sscanf(kernel.release, "%d.%d", &major, &minor) != 2) return true;
  return major > 6 || (major == 6 && minor >= 9);
}

/// A fault of the server names the request that it came with, for the next server; then it ends this one as ever.
void note_faults() {
  struct sigaction action {};
  action.sa_handler = [](int) { fuse::CurrentRequest::note_fatal(); };
  // The instruction is done again, or abort(3) raises the signal again.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS}) ::sigaction(signal, &action, nullptr);
}

}  // namespace

Server::Server(ServerSetup& setup, std::vector<int> inherited)
    : setup_(setup),
      record_(setup.record()),
      kept_memory_(choose_kept_memory(*setup.memory)),
      inherited_(std::move(inherited)),
      requests_(
          survives() ? &kept_memory_.fuse.requests : nullptr,
          [device = setup.device](std::uint64_t unique) { return fuse::Session::is_awaited(device, unique); },
          [this](const fuse::protocol::Message& message) { session_->refuse_deadly(message); }),
      unwritten_(survives() ? &kept_memory_.fuse.unwritten : nullptr) {}

int Server::run() {
  Result<UniqueFd> host = enter_mount_namespace(setup_);
  publish_liveness();
  const Result<> started = host ? start(*std::move(host)) : Result<>(fail(host.error()));
  if (!started) {
    log::error("cannot serve {}: {}", quote(setup_.directory), started.error().message());
    return EXIT_FAILURE;
  }
  reserve_descriptors();
  Result<std::thread> workers = sys::start_thread("berth-monitor", [this] { serve(); });
  if (!workers) {
    log::error("cannot serve {}: {}", quote(setup_.directory), workers.error().message());
    return EXIT_FAILURE;
  }
  const bool keeper_lives = wait_for_end();
  stop(keeper_lives);
  if (!channel_ends_soon()) {
    // Requests that a dead server holds in the kernel cannot be called back; they end with this process.
    log::warning("requests are stuck in the kernel: leaving them");
    ::_exit(EXIT_SUCCESS);
  }
  workers->join();
  return finish();
}

Result<> Server::start(UniqueFd host) {
  host_ = std::move(host);
  event_writer_.begin();
  TRY_VOID(make_manager());
  make_file_systems();
  take_over();
  if (setup_.mount.mounter) fuse::set_outer_ids(sys::outer_user(), sys::outer_group());
  session_ = TRY(fuse::Session::make(UniqueFd(setup_.device), fuse::Router{*names_, *control_, *shares_},
                                     fuse::SessionOptions{.passthrough = &passthrough_}, &kept_memory_.fuse.session));
  const bool takes_over = session_->take_over();
  shares_->serve(*session_);
  native_->serve(*shares_);
  pruner_ = TRY(shares_->keep_nodes_below(setup_.configuration.settings.max_nodes,
                                          [this](std::span<const fuse::NodeId> cold) -> Result<> {
                                            if (const Result<> asked = session_->prune(cold); !asked) {
                                              return fail(asked.error().code(), "needs Linux 6.18");
                                            }
                                            return {};
                                          }));
  if (takes_over) take_over_native();
  mounted_ = count_mounted();
  manager_->begin(state_.take_stored());
  if (takes_over) finish_take_over();
  if (record_.servers == 1) warn_of_absent_sources();
  start_sources(takes_over);
  if (const Result<> reads = reloader_.start(*manager_, host_.get()); !reads) {
    log::warning("the configuration cannot be read again: {}", reads.error().message());
  }
  workers_ = std::make_unique<fuse::Workers>(*session_, requests_);
  session_->in_flight().keep_in(unwritten_);
  served_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!served_) return fail_errno();
  return {};
}

config::CommandLine Server::command_line_in_force() const {
  config::CommandLine command_line = setup_.command_line;
  command_line.source_directory = source_directory_;
  return command_line;
}

void Server::start_sources(bool takes_over) {
  config::Configuration& configuration = setup_.configuration;
  sources_.note(std::move(configuration.source_shares));
  // Else the reloader reads which there are.
  if (!record_.sources_changed) sources_.run(configuration.sources, host_.get());
  // What a dead server has kept on disk may not be in force yet.
  if (record_.sources_changed || (takes_over && !configuration.sources.empty())) reloader_.on_sources();
}

void Server::on_configuration(const config::Configuration& configuration) {
  if (configuration.sources != setup_.configuration.sources) record_.sources_changed = true;
  sources_.note(configuration.source_shares);
  sources_.run(configuration.sources, host_.get());
}

bool Server::has_shares(const std::string& origin) const {
  const auto shares = manager_->directory();
  const auto templates = manager_->templates();
  return std::any_of(shares->begin(), shares->end(),
                     [&origin](const auto& entry) { return entry.second->spec().origin() == origin; }) ||
         std::any_of(templates->begin(), templates->end(),
                     [&origin](const auto& entry) { return entry.second.origin() == origin; });
}

void Server::publish_liveness() {
  Result<std::thread> thread = sys::start_thread("berth-life", [this] {
    record_.life_thread = ::gettid();
    if (Result<UniqueFd> life = sys::open_thread(::gettid())) record_.life = life->release();
    for (;;) ::pause();
  });
  if (thread) thread->detach();
}

void Server::send_counts() const {
  setup_.servers_end.send({.kind = Message::Kind::kCounts,
                           .shares = static_cast<std::uint32_t>(manager_->directory()->size()),
                           .mounted = mounted_});
}

void Server::serve() {
  const Result<fuse::StopReason> reason = workers_->run();
  if (!reason) {
    log::error("cannot read requests: {}", reason.error().message());
  } else if (*reason == fuse::StopReason::kFailed) {
    log::error("the connection to the kernel has failed");
  } else {
    // The keeper knows whether that is a fault: an unmount looks like this as well, while requests are under way.
    if (*reason == fuse::StopReason::kAborted) log::warning("the connection to the kernel has been aborted");
    clean_end_ = true;
  }
  const std::uint64_t one = 1;
  if (::write(served_.get(), &one, sizeof one) < 0) log::error("{}", Error::last().message());
}

bool Server::channel_ends_soon() const {
  pollfd served{served_.get(), POLLIN, 0};
  return ::poll(&served, 1, static_cast<int>(kChannelPatience.count())) > 0;
}

bool Server::wait_for_end() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  const UniqueFd signal(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (setup_.background) let_go_of_terminal();
  setup_.servers_end.send({.kind = Message::Kind::kReady,
                           .shares = static_cast<std::uint32_t>(manager_->directory()->size()),
                           .mounted = mounted_});
  sys::release_idle_memory();
  for (;;) {
    std::array<pollfd, 4> ready{{{is_ending_ ? -1 : served_.get(), POLLIN, 0},
                                 {setup_.servers_end.fd(), POLLIN, 0},
                                 {signal.get(), POLLIN, 0},
                                 {setup_.keeper.get(), POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), -1) < 0) continue;
    if (ready[0].revents != 0) return true;
    if (ready[3].revents != 0) return false;
    if (ready[1].revents != 0 && is_told_to_stop()) return true;
    if (ready[2].revents != 0 && on_signal(signal.get())) return true;
  }
}

bool Server::is_told_to_stop() {
  const Result<std::optional<Message>> message = setup_.servers_end.receive();
  if (!message) return false;
  if (!*message) return true;
  if ((*message)->kind == Message::Kind::kAsk) {
    // By the thread that all mounts and unmounts depend on.
    manager_->call_back([this] { setup_.servers_end.send({.kind = Message::Kind::kWorks}); });
    return false;
  }
  if ((*message)->kind == Message::Kind::kReload) {
    reloader_.ask();
    return false;
  }
  if ((*message)->kind == Message::Kind::kRefused) {
    upgrade_.refuse();
    return false;
  }
  if ((*message)->kind == Message::Kind::kAccepted || (*message)->kind == Message::Kind::kEnding) {
    if (!resends_ || !kernel_resends()) {
      // Else the next server answers, which knows that it worked.
      if ((*message)->kind == Message::Kind::kAccepted) upgrade_.accept();
      finish_requests();
    }
    setup_.servers_end.send({.kind = Message::Kind::kAnswered});
    return false;
  }
  return true;
}

/// What is read and not answered would be lost with this server. What is not read yet the next one reads.
void Server::finish_requests() {
  is_ending_ = true;
  workers_->stop();
  const TimePoint until = clock_.now() + kFinishPatience;
  while (workers_->threads() > 0 && clock_.now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

bool Server::on_signal(int signal) {
  bool stop = false;
  signalfd_siginfo info{};
  while (::read(signal, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    stop = stop || info.ssi_signo == static_cast<std::uint32_t>(SIGTERM);
  }
  return stop;
}

void Server::stop(bool keeper_lives) {
  // However it has learnt that it must stop: the namespace may have been gone before the keeper sent that.
  setup_.servers_end.send({.kind = Message::Kind::kStopping});
  upgrade_.end(Error(ESHUTDOWN));
  reloader_.stop();
  sources_.stop();
  if (!keeper_lives) {
    // The namespace stays mounted and answers errors, until the next start puts another one in its place: without it,
    // what is written there would land on the host's own disk.
    log::warning("the keeper is gone: stopping");
    setup_.agent.expect_no_other();
    native_->expect_no_agent();
  }
  std::atomic<bool> stopped{false};
  Result<std::thread> force =
      sys::start_thread("berth-force", [this, &stopped, keeper_lives] { wait_for_force(stopped, keeper_lives); });
  const TimePoint deadline = clock_.now() + setup_.configuration.settings.stop_timeout;
  const manager::Manager::StopReport report = manager_->stop(deadline);
  given_up_ = report.given_up;
  stopped = true;
  if (force) force->join();
  log::info("stopped: {} {} unmounted, {} given up", report.unmounted, report.unmounted == 1 ? "share" : "shares",
            report.given_up);
  workers_->stop();
}

void Server::wait_for_force(const std::atomic<bool>& stopped, bool keeper_lives) {
  constexpr int kPollMilliseconds = 20;
  while (!stopped) {
    std::array<pollfd, 3> ready{{{served_.get(), POLLIN, 0},
                                 {setup_.servers_end.fd(), POLLIN, 0},
                                 {keeper_lives ? setup_.keeper.get() : -1, POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), kPollMilliseconds) <= 0) continue;
    if (ready[1].revents != 0) {
      const Result<std::optional<Message>> message = setup_.servers_end.receive();
      if (message && *message && (*message)->kind != Message::Kind::kForce) continue;
    }
    return manager_->hurry();
  }
}

int Server::finish() {
  // A thread that was given up may still come back from the kernel and answer: it needs what would be destroyed here.
  if (given_up_ > 0 || session_->in_flight().is_troubled()) ::_exit(clean_end_ ? EXIT_SUCCESS : EXIT_FAILURE);
  control_->stop();
  pruner_.reset();
  session_.reset();
  names_.reset();
  tree_ = nullptr;
  control_.reset();
  shares_.reset();
  manager_.reset();
  native_.reset();
  return clean_end_ ? EXIT_SUCCESS : EXIT_FAILURE;
}

void run_server(ServerSetup& setup, std::vector<int> inherited) {
  ::umask(0);
  narrow_to(Role::kServer);
  if (::chdir("/") != 0) log::warning("cannot leave the working directory: {}", Error::last().message());
  static_cast<void>(sys::set_oom_score(sys::kServerOomScore));
  // The keeper speaks for both, and no helper shall.
  for (const char* const variable : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(variable);
  const sigset_t blocked = sys::all_but_faults();
  ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
  // Many short-lived threads, each with an arena of its own, would cost far more memory than the lock of a few arenas.
  ::mallopt(M_ARENA_MAX, 2);
  // What is large is the text of a status or the names of a listing, and soon over: it goes back to the kernel at once.
  // A threshold that was set does not grow by itself.
  ::mallopt(M_MMAP_THRESHOLD, 64 << 10);
  ::mallopt(M_TRIM_THRESHOLD, 128 << 10);
  KeptDaemon& record = setup.record();
  record.server = ::getpid();
  ++record.servers;
  note_faults();
  arm_crash_points();
  ::_exit(Server(setup, std::move(inherited)).run());
}

}  // namespace berth::daemon
