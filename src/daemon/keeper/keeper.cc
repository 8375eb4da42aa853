#include "src/daemon/keeper/keeper.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "src/daemon/common/exit_code.h"
#include "src/daemon/common/kept_memory.h"
#include "src/daemon/common/namespace_mount.h"
#include "src/daemon/common/privileges.h"
#include "src/daemon/keeper/upgrade.h"
#include "src/daemon/server/server.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/inherited.h"
#include "src/lib/sys/memory.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/time_left.h"

namespace berth::daemon {
namespace {

/// How long a server may take to end after a request to stop at once, before it is killed.
constexpr std::chrono::seconds kForcePatience{5};
/// The same for a server that stops, after stop_timeout: thousands of mounts take the kernel some seconds.
constexpr std::chrono::seconds kEndingPatience{15};
/// How long a server that ends may take to let go of what it has. Then the keeper looks for threads of it that cannot
/// end.
constexpr std::chrono::milliseconds kEndPatience{50};
/// How long threads of it that wait for a processor may take.
constexpr std::chrono::seconds kRunPatience{5};
/// How long a server may take to answer the requests that would be lost with it, before it is ended.
constexpr std::chrono::seconds kAnswerPatience{3};
/// The keeper makes room for so many descriptors at the start: files and shares in use of a large host.
constexpr unsigned kDescriptors = 65536;

bool has_passed(TimePoint time) { return std::chrono::steady_clock::now() >= time; }
bool has_passed(const std::optional<TimePoint>& time) { return time && has_passed(*time); }

std::string how(int status) {
  if (WIFEXITED(status)) return "ended with status " + std::to_string(WEXITSTATUS(status));
  return "was killed by signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) + ")";
}

/// How often the kernel has killed a process because memory had run out (proc(5), /proc/vmstat); 0 where it does not
/// report that.
std::uint64_t oom_kills() {
  constexpr std::string_view kKey = "oom_kill ";
  constexpr std::size_t kMost = std::size_t{64} << 10;
  const Result<std::string> text = sys::read_file("/proc/vmstat", kMost);
  if (!text) return 0;
  for (const std::string_view line : split(*text, '\n')) {
    if (line.starts_with(kKey)) return std::strtoull(std::string(line.substr(kKey.size())).c_str(), nullptr, 10);
  }
  return 0;
}

}  // namespace

std::vector<int> open_descriptors() {
  std::vector<int> numbers;
  DIR* const listing = ::opendir("/proc/self/fd");
  if (listing == nullptr) return numbers;
  while (const dirent* const entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    int number = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && number != ::dirfd(listing)) numbers.push_back(number);
  }
  ::closedir(listing);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

Result<UniqueFd> Keeper::block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD}) sigaddset(&signals, signal);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return fail_errno();
  UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!fd) return fail_errno();
  return fd;
}

Keeper::Keeper(ServerSetup& setup, Background& background, std::set<int> own)
    : setup_(setup), background_(background), own_(std::move(own)), program_(own_program()) {
  sys::occupy_copied_descriptors();
  const std::vector<int> open = own_.empty() ? open_descriptors() : std::vector<int>();
  own_.insert(open.begin(), open.end());
  ready_ = setup_.record().servers > 0;
  if (ready_) crashed_ = std::chrono::steady_clock::now();
  sys::make_room_for_descriptors(kDescriptors);
  watch_mounts();
}

/// Without it, the keeper notices an unmount when the server ends.
void Keeper::watch_mounts() {
  Result<UniqueFd> table = sys::open_at(AT_FDCWD, "/proc/self/mountinfo", O_RDONLY);
  if (!table) return log::warning("cannot watch the mount table: {}", table.error().message());
  own_.insert(table->get());
  mount_table_ = *std::move(table);
}

/// What the dead server has opened. The keeper must open nothing between this and the next server's start.
std::vector<int> Keeper::inherited_descriptors() const {
  std::vector<int> left;
  const std::vector<int> open = open_descriptors();
  std::set_difference(open.begin(), open.end(), own_.begin(), own_.end(), std::back_inserter(left));
  if (check_) {
    std::erase(left, check_->pidfd());
    std::erase(left, check_->output_pipe());
  }
  return left;
}

Result<> Keeper::start_server() {
  const std::vector<int> left = inherited_descriptors();
  ending_until_.reset();
  setup_.record().life = -1;
  setup_.record().life_thread = 0;
  oom_kills_ = oom_kills();
  server_stops_ = false;
  silent_at_.reset();
  clone_args arguments{};
  // One table of descriptors for the keeper and all servers: what is open survives the process that opened it.
  arguments.flags = CLONE_FILES;
  arguments.exit_signal = SIGCHLD;
  const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child < 0) return fail(Error::last().within("cannot start the server"));
  if (child == 0) run_server(setup_, left);
  server_ = static_cast<pid_t>(child);
  takeover_until_ = std::chrono::steady_clock::now() + setup_.configuration.settings.takeover_timeout;
  return {};
}

int Keeper::run(int signals) {
  narrow_to(Role::kKeeper);
  const int code = serve(signals);
  end_pid_namespace();
  return code;
}

int Keeper::serve(int signals) {
  signals_ = signals;
  for (;;) {
    std::array<pollfd, 5> ready{{{signals, POLLIN, 0},
                                 {setup_.keepers_end.fd(), POLLIN, 0},
                                 {check_ ? check_->pidfd() : -1, POLLIN, 0},
                                 {ending_until_ ? -1 : setup_.record().life.load(), POLLIN, 0},
                                 {stopping_ ? -1 : mount_table_.get(), POLLPRI, 0}}};
    if (::poll(ready.data(), ready.size(), milliseconds_to_work()) < 0) continue;
    if (ready[3].revents != 0) on_server_begins_to_end();
    if (ready[2].revents != 0) on_check_ended();
    if (ready[1].revents != 0) on_message();
    if (ready[4].revents != 0) on_mounts_changed();
    notify_status();
    feed_watchdog();
    if (const std::optional<int> code = enforce_deadlines()) return *code;
    if (ready[0].revents == 0) continue;
    signalfd_siginfo info{};
    if (::read(signals, &info, sizeof info) != static_cast<ssize_t>(sizeof info)) continue;
    const auto signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGHUP) {
      on_reload_signal();
    } else if (signal != SIGCHLD) {
      on_stop_signal(signal);
    } else if (const std::optional<int> code = collect_children()) {
      return *code;
    }
  }
}

void Keeper::on_message() {
  const Result<std::optional<Message>> message = setup_.keepers_end.receive();
  if (!message || !*message) return;
  const Message& said = **message;
  if (said.kind == Message::Kind::kUpgrade) return on_upgrade_wanted();
  if (said.kind == Message::Kind::kReplace) return on_replacement_wanted();
  if (said.kind == Message::Kind::kStopping) return on_server_stopping();
  if (said.kind == Message::Kind::kWorks) {
    silent_at_.reset();
    return manager_.alive();
  }
  if (said.kind == Message::Kind::kAnswered) {
    if (hand_over_at_) end_server();
    return;
  }
  if (said.kind == Message::Kind::kReady) {
    takeover_until_.reset();
    ready_ = true;
    if (setup_.record().servers == 1) {
      log::info("serving {} {} at {}", said.shares, said.shares == 1 ? "share" : "shares", quote(setup_.directory));
      manager_.ready();
      background_.ready();
    } else {
      log::info("a new server has taken over {} after {}", quote(setup_.directory),
                format_duration(std::chrono::steady_clock::now() - crashed_));
    }
  }
  counts_ = said;
}

/// Milliseconds until there is work without a message; -1: there is none.
int Keeper::milliseconds_to_work() const {
  int left = -1;
  const auto at = [&left](TimePoint time) {
    const int milliseconds = sys::poll_timeout(time);
    left = left < 0 ? milliseconds : std::min(left, milliseconds);
  };
  if (kill_at_) at(*kill_at_);
  if (ending_until_) at(*ending_until_);
  if (hand_over_at_) at(*hand_over_at_);
  if (takeover_until_) at(*takeover_until_);
  if (check_) at(*check_until_);
  if (counts_ && !stopping_) at(next_status_);
  if (manager_.due()) at(*manager_.due());
  if (manager_.watchdog()) at(next_watch_);
  if (silent_at_) at(*silent_at_);
  return left;
}

/// At most once a second: the service manager need not be notified of each mount.
void Keeper::notify_status() {
  if (has_passed(manager_.due())) manager_.tell();
  if (!counts_ || stopping_ || !has_passed(next_status_)) return;
  manager_.status("serving " + escape(setup_.directory) + ": " + std::to_string(counts_->shares) +
                  (counts_->shares == 1 ? " share, " : " shares, ") + std::to_string(counts_->mounted) + " mounted");
  counts_.reset();
  sys::release_idle_memory();  // until the next one
  next_status_ = std::chrono::steady_clock::now() + std::chrono::seconds(1);
}

/// The service manager's watchdog is notified when the server works. While a deadline of berth's own bounds what the
/// server does, the watchdog need not: it would end the mounts as well.
void Keeper::feed_watchdog() {
  if (!manager_.watchdog() || !has_passed(next_watch_)) return;
  next_watch_ = std::chrono::steady_clock::now() + *manager_.watchdog() / 4;
  if (stopping_ || takeover_until_ || handing_over_) {
    silent_at_.reset();
    return manager_.alive();
  }
  setup_.keepers_end.send({.kind = Message::Kind::kAsk});
  if (!silent_at_) silent_at_ = std::chrono::steady_clock::now() + *manager_.watchdog() / 2;
}

/// Its successor takes over everything. If that one were silent too, the watchdog would end all of berth.
void Keeper::on_silent_server() {
  silent_at_.reset();
  if (stopping_ || takeover_until_ || handing_over_) return;
  log::error("the server does not answer the keeper: killing it");
  ::kill(server_, SIGKILL);
}

std::optional<int> Keeper::enforce_deadlines() {
  if (has_passed(kill_at_)) {
    // It has been asked to stop, and is stopped (SIGSTOP) or stuck.
    log::error("the server does not end: killing it");
    ::kill(server_, SIGKILL);
    kill_at_ = std::chrono::steady_clock::now() + kForcePatience;
  }
  if (check_ && has_passed(check_until_)) {
    check_.reset();
    refuse_upgrade(quote(program_) + " does not say whether it can go on");
  }
  if (has_passed(hand_over_at_)) end_server();
  if (has_passed(silent_at_)) on_silent_server();
  if (has_passed(ending_until_)) return on_server_ending();
  if (has_passed(takeover_until_)) {
    return end_connection("the server does not serve " +
                          format_duration(setup_.configuration.settings.takeover_timeout) +
                          " after its start (takeover_timeout)");
  }
  return std::nullopt;
}

void Keeper::on_server_begins_to_end() {
  const TimePoint now = std::chrono::steady_clock::now();
  ending_until_ = now + kEndPatience;
  running_until_ = now + kRunPatience;
}

/// The server is dead, except for threads that are stuck in the kernel: a share hangs, or they wait for a process that
/// waits for the next server. So the next server must not wait for them. None of them comes back to run anything.
///
/// It does wait for a thread that can run: such a one still reads the next request if it was waiting for one, and that
/// request would be lost, or makes the change of its last one after the next server has made it.
std::optional<int> Keeper::on_server_ending() {
  const std::optional<int> status = sys::status_of_zombie(server_);
  if (!status || (sys::has_running_thread(server_) && !has_passed(running_until_))) {
    ending_until_ = std::chrono::steady_clock::now() + kEndPatience;
    return std::nullopt;
  }
  log::warning("threads of the dead server are stuck in the kernel: going on without them");
  return on_server_ended(*status);
}

/// Collects servers that had stuck threads when the next one was started, and have ended since. Only processes that
/// nothing else waits for.
void Keeper::reap_stuck_server() const {
  siginfo_t ended{};
  while (::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0) {
    const pid_t pid = ended.si_pid;
    if (pid == server_ || pid == setup_.first_process || pid == setup_.agent.pid()) return;
    if (check_ && pid == check_->pid()) return;
    ::waitpid(pid, nullptr, WNOHANG);
    ended = {};
  }
}

std::optional<int> Keeper::collect_children() {
  // One by one: the code that reads the output of another binary's check collects that check.
  int status = 0;
  if (setup_.first_process != 0 && ::waitpid(setup_.first_process, &status, WNOHANG) > 0) {
    setup_.first_process = 0;
    return end_connection("the first process of the servers' pid namespace " + how(status));
  }
  setup_.agent.look_after();
  const bool has_ended = ::waitpid(server_, &status, WNOHANG) > 0;
  // First: one SIGCHLD may tell of both, and none follows.
  reap_stuck_server();
  return has_ended ? on_server_ended(status) : std::nullopt;
}

void Keeper::on_stop_signal(int signal) {
  if (handing_over_ || hand_over_at_) {
    // There is no server that could stop: the next one is asked to stop.
    stop_signal_ = signal;
    return;
  }
  if (check_) {
    check_.reset();
    refuse_upgrade("signal " + std::to_string(signal) + " came first");
  }
  if (forced_) {
    log::warning("signal {} once more: killing the server", signal);
    ::kill(server_, SIGKILL);
    return;
  }
  if (stopping_) {
    log::warning("signal {} again: stopping at once", signal);
    setup_.keepers_end.send({.kind = Message::Kind::kForce});
    forced_ = true;
    kill_at_ = std::chrono::steady_clock::now() + kForcePatience;
    return;
  }
  log::info("signal {}: stopping; a second one forces", signal);
  stop();
}

void Keeper::stop() {
  stopping_ = true;
  manager_.stopping();
  manager_.status("stopping");
  take_namespace_off();
  setup_.keepers_end.send({.kind = Message::Kind::kStop});
  // A server that is stopped (SIGSTOP), or stuck, does not confirm the stop.
  const std::chrono::milliseconds patience = setup_.configuration.settings.stop_timeout;
  kill_at_ =
      std::chrono::steady_clock::now() +
      (server_stops_ ? patience + kEndingPatience : std::min<std::chrono::milliseconds>(patience, kForcePatience));
}

/// Detached (umount -l) while a program is inside, the namespace lives on, and the connection with it, but no other
/// program gets there.
void Keeper::on_mounts_changed() {
  if (is_namespace_mounted(setup_.mount, setup_.directory).value_or(true)) return;
  log::info("{} has been unmounted: stopping", quote(setup_.directory));
  stop();
}

/// The server ends by itself at stop_timeout; here it is only killed if it does not.
void Keeper::on_server_stopping() {
  server_stops_ = true;
  if (!stopping_ || forced_) return;
  kill_at_ = std::chrono::steady_clock::now() + setup_.configuration.settings.stop_timeout + kEndingPatience;
}

/// The server reads it; one that dies before has it read by the next.
void Keeper::on_reload_signal() {
  ++setup_.record().reload_wanted;
  setup_.keepers_end.send({.kind = Message::Kind::kReload});
}

void Keeper::take_namespace_off() {
  const Result<bool> in_use = unmount_namespace(setup_.mount, setup_.directory);
  if (!in_use) log::error("{}", in_use.error().message());
  if (in_use && *in_use) log::info("{} is in use; waiting for its users", quote(setup_.directory));
}

/// The exit code, if there is nothing more to do.
std::optional<int> Keeper::on_server_ended(int status) {
  ending_until_.reset();
  setup_.record().server = 0;
  if (std::exchange(handing_over_, false)) return std::exchange(replacing_, false) ? replace_server() : hand_over();
  if (WIFSIGNALED(status) && !stopping_) return on_crash(status);
  // What was never served was never used; else it stays, so that nothing is written to the directory below.
  if (!ready_) take_namespace_off();
  if (WIFSIGNALED(status)) {
    log::error("the server {}", how(status));
    return kExitOs;
  }
  if (!stopping_ && ready_ && is_namespace_mounted(setup_.mount, setup_.directory).value_or(false)) {
    log::error(
        "{} has lost its connection (umount -f of it somewhere aborts it) and stays as it is until the next start",
        quote(setup_.directory));
    return kExitUnavailable;
  }
  return WEXITSTATUS(status);
}

std::optional<int> Keeper::on_crash(int status) {
  crashed_ = std::chrono::steady_clock::now();
  // If a server was killed from outside, no request has caused it.
  const bool is_fault = WTERMSIG(status) != SIGKILL || oom_kills() != oom_kills_;
  choose_kept_memory(*setup_.memory).fuse.requests.server_crashed = is_fault ? 1 : 0;
  const config::Settings& settings = setup_.configuration.settings;
  while (!crashes_.empty() && crashes_.front() + settings.crash_window < crashed_) crashes_.pop_front();
  crashes_.push_back(crashed_);
  if (crashes_.size() > settings.crash_limit) {
    return end_connection("the server " + how(status) + ", for the " + std::to_string(crashes_.size()) +
                          "th time within " + format_duration(settings.crash_window) + " (crash_limit, crash_window)");
  }
  const Result<> started = start_server();
  // Only now: the program that reads the log may be slow, and callers wait.
  log::error("the server {}; {}", how(status), started ? "a new one has been started" : "no new one can be started");
  if (!started) return end_connection(started.error().message());
  return std::nullopt;
}

void Keeper::on_upgrade_wanted() {
  // The next server asks again for what the one before it has asked for.
  const KeptDaemon& record = setup_.record();
  if (record.upgrade_refused == record.upgrade_request) return notify_refused();
  if (check_ || handing_over_ || hand_over_at_) return;
  if (stopping_) return refuse_upgrade("it is stopping");
  Result<sys::Process> check = ask_for_consent(program_, setup_.arguments);
  if (!check) return refuse_upgrade(check.error().message());
  log::info("upgrade: asking {} whether it can go on", quote(program_));
  check_ = std::move(*check);
  check_until_ = std::chrono::steady_clock::now() + setup_.configuration.settings.takeover_timeout;
}

void Keeper::on_check_ended() {
  const Result<sys::ExitStatus> status = check_->wait(std::chrono::steady_clock::now());
  const std::string said = check_->output();
  check_.reset();
  if (!status) return refuse_upgrade(status.error().message());
  if (!status->success() || said.find(consent()) == std::string::npos) {
    return refuse_upgrade(quote(program_) + ": " + sys::to_string(*status) + (said.empty() ? "" : ", " + quote(said)));
  }
  log::info("upgrade: {} goes on", quote(program_));
  setup_.keepers_end.send({.kind = Message::Kind::kAccepted});
  hand_over_at_ = std::chrono::steady_clock::now() + kAnswerPatience;
}

/// Another server than this one would come up in any case soon where any of this is under way.
void Keeper::on_replacement_wanted() {
  if (stopping_ || takeover_until_ || check_ || handing_over_ || hand_over_at_) return;
  replacing_ = true;
  setup_.keepers_end.send({.kind = Message::Kind::kEnding});
  hand_over_at_ = std::chrono::steady_clock::now() + kAnswerPatience;
}

/// The next server repeats or finishes what this one has begun.
void Keeper::end_server() {
  hand_over_at_.reset();
  handing_over_ = true;
  choose_kept_memory(*setup_.memory).fuse.requests.server_crashed = 0;
  crashed_ = std::chrono::steady_clock::now();
  ::kill(server_, SIGKILL);
}

void Keeper::refuse_upgrade(const std::string& reason) {
  log::error("upgrade: refused, and going on as before: {}", reason);
  KeptDaemon& record = setup_.record();
  record.upgrade_refused = record.upgrade_request.load();
  notify_refused();
}

void Keeper::notify_refused() const { setup_.keepers_end.send({.kind = Message::Kind::kRefused}); }

/// Executes the new binary; if even that fails, the old one continues.
std::optional<int> Keeper::hand_over() {
  own_.erase(mount_table_.get());
  mount_table_.reset();
  const KeeperDescriptors handed{.device = setup_.device,
                                 .keepers_end = setup_.keepers_end.fd(),
                                 .servers_end = setup_.servers_end.fd(),
                                 .keeper = setup_.keeper.get(),
                                 .signals = signals_,
                                 .run_directory = setup_.run_directory,
                                 .state = setup_.state ? setup_.state->fd() : -1,
                                 .native_servers_end = setup_.agent.channel().fd(),
                                 .native_agents_end = setup_.agent.agents_end().fd(),
                                 .user_mounter = setup_.mount.mounter ? setup_.mount.mounter->fd() : -1,
                                 .agent = setup_.agent.pid(),
                                 .first_process = setup_.first_process,
                                 .background = setup_.background};
  // It stays pending until then, and is read where it would have been (execve(2)).
  if (stop_signal_) ::kill(::getpid(), *stop_signal_);
  const Error error = execute_upgrade(program_, setup_, handed);
  KeptDaemon& record = setup_.record();
  record.upgrade_refused = record.upgrade_request.load();
  watch_mounts();
  const Result<> started = start_server();
  log::error("upgrade: cannot execute {}: {}; going on as before", quote(program_), error.message());
  if (!started) return end_connection(started.error().message());
  return std::nullopt;
}

std::optional<int> Keeper::replace_server() {
  if (const Result<> started = start_server(); !started) return end_connection(started.error().message());
  if (const std::optional<int> signal = std::exchange(stop_signal_, std::nullopt)) on_stop_signal(*signal);
  return std::nullopt;
}

/// Ends the connection: callers that wait for an answer, or ask from now on, get an error. Where it was never served
/// there is nothing to keep covered.
int Keeper::end_connection(const std::string& reason) {
  log::error("giving up {}: {}", quote(setup_.directory), reason);
  // The number of a process that has been collected may be another process's by now.
  if (setup_.record().server != 0) ::kill(server_, SIGKILL);
  abort_namespace(setup_.mount);
  if (!ready_) take_namespace_off();
  wait_for_server_end();
  ::close(setup_.device);
  return kExitUnavailable;
}

/// What is left in it (a first process that is stopped, helpers that do not end) must not outlive the keeper, because
/// it holds the real mounts. One that is stuck in the kernel ends some time after the keeper.
void Keeper::end_pid_namespace() {
  if (setup_.first_process == 0) return;
  ::kill(setup_.first_process, SIGKILL);
  const TimePoint until = std::chrono::steady_clock::now() + kForcePatience;
  for (;;) {
    // It ends last (pid_namespaces(7)): processes in it that are the keeper's children must be collected first.
    const pid_t ended = ::waitpid(-1, nullptr, WNOHANG);
    if (ended == setup_.first_process || (ended < 0 && errno != EINTR) || has_passed(until)) return;
    if (ended > 0) continue;
    pollfd child{signals_, POLLIN, 0};
    ::poll(&child, 1, sys::poll_timeout(until));
    signalfd_siginfo info{};
    if (child.revents != 0 && ::read(signals_, &info, sizeof info) < 0) return;
  }
}

/// One that is stuck in the kernel cannot be waited for. It is ended by the end of its pid namespace, after the keeper.
void Keeper::wait_for_server_end() const {
  const Result<UniqueFd> server = sys::open_process(server_);
  if (!server) return;
  pollfd ended{server->get(), POLLIN, 0};
  ::poll(&ended, 1, static_cast<int>(std::chrono::milliseconds(kForcePatience).count()));
}

}  // namespace berth::daemon
