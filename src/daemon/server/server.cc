#include "src/daemon/server/server.h"

#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <span>
#include <thread>

#include "fuse/control/control_tree.h"
#include "fuse/root/namespace.h"
#include "fuse/session/outer_ids.h"
#include "fuse/session/session.h"
#include "fuse/shares/share_fs.h"
#include "fuse/workers/workers.h"
#include "manager/backends/attempt_namespace.h"
#include "manager/backends/look_up_program.h"
#include "manager/backends/make_backends.h"
#include "manager/backends/root_answer.h"
#include "manager/backends/secret_files.h"
#include "manager/engine/manager.h"
#include "src/config/answer.h"
#include "src/config/share_section.h"
#include "src/daemon/common/background.h"
#include "src/daemon/common/kept_memory.h"
#include "src/daemon/common/namespace_mount.h"
#include "src/daemon/common/privileges.h"
#include "src/daemon/native/native_shares.h"
#include "src/daemon/server/catalog_sources.h"
#include "src/daemon/server/event_writer.h"
#include "src/daemon/server/log_event.h"
#include "src/daemon/server/reloader.h"
#include "src/daemon/server/server_state.h"
#include "src/daemon/server/upgrade_request.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/test_switch.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/inherited.h"
#include "src/lib/sys/memory.h"
#include "src/lib/sys/namespaces.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/thread.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::daemon {
namespace {

/// Mountpoints are a few inodes each; beyond the most shares there can be nothing is made.
constexpr std::uint64_t kMaxBerthInodes = 4 * manager::kMaxShares;
constexpr const char* kBerthsSize = "64k";

/// How long the threads that handle requests may take to end when everything else has.
constexpr std::chrono::milliseconds kChannelPatience{2000};

/// Descriptors that no server uses while it serves: two of them are open at once in a take-over.
constexpr std::uint64_t kReservedDescriptors = 256;

/// How long the agent may take to report what overmounts the namespace.
constexpr std::chrono::seconds kAgentPatience{2};

/// FUSE_NOTIFY_RESEND came with Linux 6.9. Where an older kernel has it as well, an upgrade is only answered sooner.
bool kernel_resends() noexcept {
  utsname kernel{};
  int major = 0;
  int minor = 0;
  if (::uname(&kernel) != 0 || std::sscanf(kernel.release, "%d.%d", &major, &minor) != 2) return true;
  return major > 6 || (major == 6 && minor >= 9);
}

/// What the program of a template says of a key. Errors: those of ask_program(); EHOSTDOWN with a story when it is no share.
Result<manager::ShareFields> ask_for_share(const manager::HostView& view, const std::string& directory,
                                           const manager::LookUpQuestion& question) {
  const std::string answer = TRY(manager::ask_program(view, question));
  Result<manager::ShareFields> fields = config::read_answer(answer, question.key, question.fields);
  std::string fault = fields ? "" : std::string(fields.error().story());
  if (fields) {
    const config::InsideNamespace inside = config::find_inside(*fields, directory);
    if (!inside.key.empty()) fault = quote(inside.path) + " lies inside the namespace";
  }
  if (fault.empty()) return fields;
  fault = question.argv.front() + " has answered what is no share: " + fault;
  return fail(EHOSTDOWN, manager::known_secrets(view, question.pattern).mask(fault));
}

/// Everything that serves, in the order in which it is made.
class Server {
 public:
  Server(ServerSetup& setup, std::vector<int> inherited)
      : setup_(setup),
        record_(setup.record()),
        kept_memory_(choose_kept_memory(*setup.memory)),
        inherited_(std::move(inherited)),
        requests_(
            survives() ? &kept_memory_.fuse.requests : nullptr,
            [device = setup.device](std::uint64_t unique) { return fuse::Session::is_awaited(device, unique); },
            [this](const fuse::protocol::Message& message) { session_->refuse_deadly(message); }) {}

  int run() {
    Result<> started = enter_own_mount_namespace();
    publish_liveness();
    if (started) started = start();
    if (!started) {
      log::error("cannot serve {}: {}", quote(setup_.directory), started.error().message());
      return EXIT_FAILURE;
    }
    reserve_descriptors();
    std::thread workers([this] { serve(); });
    const bool keeper_lives = wait_for_end();
    stop(keeper_lives);
    if (!channel_ends_soon()) {
      // Requests that a dead server holds in the kernel cannot be called back; they end with this process.
      log::warning("requests are stuck in the kernel: leaving them");
      ::_exit(EXIT_SUCCESS);
    }
    workers.join();
    return finish();
  }

 private:
  Result<> start() {
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
    start_sources(takes_over);
    if (const Result<> reads = reloader_.start(*manager_, host_.get()); !reads) {
      log::warning("the configuration cannot be read again: {}", reads.error().message());
    }
    workers_ = std::make_unique<fuse::Workers>(*session_, requests_);
    served_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!served_) return fail_errno();
    return {};
  }

  /// For another reading of the configuration: where shares of sources are kept stays as it is.
  [[nodiscard]] config::CommandLine command_line_in_force() const {
    config::CommandLine command_line = setup_.command_line;
    command_line.source_directory = source_directory_;
    return command_line;
  }

  void start_sources(bool takes_over) {
    config::Configuration& configuration = setup_.configuration;
    sources_.note(std::move(configuration.source_shares));
    // Else the reloader reads which there are.
    if (!record_.sources_changed) sources_.run(configuration.sources, host_.get());
    // What a dead server has kept on disk may not be in force yet.
    if (record_.sources_changed || (takes_over && !configuration.sources.empty())) reloader_.on_sources();
  }

  /// On the thread that reads the configuration.
  void on_configuration(const config::Configuration& configuration) {
    if (configuration.sources != setup_.configuration.sources) record_.sources_changed = true;
    sources_.note(configuration.source_shares);
    sources_.run(configuration.sources, host_.get());
  }

  /// From here on nothing that is mounted shows on the host, and only the servers can reach it. Call it with one
  /// thread.
  Result<> enter_own_mount_namespace() {
    host_ = TRY(sys::current_mount_namespace());
    const int made = record_.mount_namespace;
    if (made >= 0) {
      if (::setns(made, CLONE_NEWNS) != 0)
        return fail(Error::last().within("cannot enter the servers' mount namespace"));
      ::setsid();
      return {};
    }
    TRY_VOID(sys::unshare_mount_namespace());
    // The copy of the namespace itself would keep the connection alive, and let the server walk into itself.
    if (!setup_.mount.mounter && ::umount2(setup_.directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
      return fail_errno();
    // A session of its own: the terminal's Ctrl-C goes to the keeper, which passes it on once. Not sooner, as in
    // Background::ready(); and not later, because what lies behind other automount points must be mounted for the
    // server.
    ::setsid();
    TRY_VOID(sys::mount_private_tmpfs(setup_.berth_directory, kMaxBerthInodes, kBerthsSize));
    TRY_VOID(manager::detach_copies(needed_paths()));
    // Only now: a successor finds it complete or not at all.
    UniqueFd mine = TRY(sys::current_mount_namespace());
    record_.mount_namespace = mine.release();
    return {};
  }

  /// What this namespace needs of the host's mounts, beside the system itself: sources are looked up on the host.
  [[nodiscard]] std::vector<std::string> needed_paths() const {
    std::vector<std::string> paths{setup_.berth_directory};
    if (setup_.state) paths.push_back(setup_.state->path());
    for (const auto& [name, share] : setup_.configuration.catalog.shares()) {
      const std::vector<std::string>& command = share.unmount_command();
      paths.insert(paths.end(), command.begin(), command.end());
    }
    return paths;
  }

  /// By a thread that does nothing. A thread that is killed in a request to a share that hangs does not end before that
  /// is answered, and until the last thread has ended no process is notified of the process's end. Where the thread's
  /// pidfd cannot be had (before Linux 6.9), the keeper has to wait for that.
  void publish_liveness() {
    Result<std::thread> thread = sys::start_thread("berth-life", [this] {
      if (Result<UniqueFd> life = sys::open_thread(::gettid())) record_.life = life->release();
      for (;;) ::pause();
    });
    if (thread) thread->detach();
  }

  /// A caller that opens as many files as it can must not keep the next server from its start, which shares the table
  /// of descriptors. The next server starts under the keeper's limit, not this one's.
  static void reserve_descriptors() {
    if (const Result<> lowered = sys::lower_file_limit(kReservedDescriptors); !lowered)
      log::warning("{}", lowered.error().message());
  }

  /// With the limit as reserve_descriptors() leaves it.
  static fuse::OpenFiles::Limits limits_of_open_files() {
    const std::uint64_t limit = sys::file_limit() - std::min(kReservedDescriptors, sys::file_limit() / 2);
    const std::uint64_t end = limit - sys::descriptor_reserve(limit);
    return {.end = static_cast<int>(end), .per_user = end / 2};
  }

  /// Takes over everything that a dead server had, or closes it.
  void take_over() {
    std::vector<int> kept = manager_->kept_descriptors();
    kept.push_back(record_.mount_namespace);
    kept.push_back(record_.state);
    std::sort(kept.begin(), kept.end());
    std::erase_if(inherited_, [&](int number) { return std::binary_search(kept.begin(), kept.end(), number); });
    shares_->take_over(inherited_);
    if (inherited_.empty()) return;
    // A server that does not answer may hold up the close of a file.
    Result<std::thread> closer = sys::start_thread("berth-close", [inherited = std::move(inherited_)] {
      for (const int number : inherited) ::close(number);
    });
    if (closer) closer->detach();
  }

  void finish_take_over() {
    shares_->finish_take_over();
    for (const std::uint64_t poller : control_->inherited_polls()) session_->wake_poller(poller);
    requests_.finish_forgets([this](const fuse::protocol::Message& message) { session_->process(message); });
    const Result<> asked = resends_ ? session_->request_resend() : Result<>(fail(EOPNOTSUPP));
    if (asked) return;
    log::warning("this kernel does not send requests again (Linux 6.9 does): what was under way fails");
    for (const std::uint64_t unique : requests_.unanswered()) session_->fail_unanswered(unique);
    requests_.undo_all();
  }

  Result<> make_manager() {
    native_ = std::make_unique<NativeShares>(NativeShares::Setup{.agent = setup_.agent.channel(),
                                                                 .directory = setup_.directory,
                                                                 .namespace_mount = setup_.mount.id,
                                                                 .keeper = setup_.keeper_pid});
    manager::ManagerSetup setup;
    setup.native = native_.get();
    // mount.berth is ended by umount(8), which a mount on the namespace would stand in the way of; and without root none can be (Passthrough).
    setup.auto_is_native = !setup_.background && !sys::is_own_root();
    setup.kept = &kept_memory_.mounts;
    setup.configuration = setup_.configuration_number;
    setup.on_catalog_change = [this](const std::vector<std::string>& names,
                                     const std::vector<std::shared_ptr<manager::Share>>& shares) {
      names_->forget_names(names, *session_);
      for (const std::shared_ptr<manager::Share>& share : shares) shares_->on_mounted(*share);
      send_counts();
    };
    setup.drop_unused = [this](const manager::Share& share) { shares_->drop_unused(share); };
    setup.is_known = [this](const manager::Share& share, bool below) { return shares_->is_known(share, below); };
    setup.takes_over = record_.servers > 1;
    setup.berth_directory = setup_.berth_directory;
    setup.max_concurrent_mounts = setup_.configuration.settings.max_concurrent_mounts;
    setup.instances = {.in_all = setup_.configuration.settings.max_instances,
                       .of_template = setup_.configuration.settings.max_instances_per_template,
                       .of_user = setup_.configuration.settings.max_instances_per_user};
    setup.max_mounts_per_server = setup_.configuration.settings.max_mounts_per_server;
    const manager::HostView view{.mount_namespace = host_.get(),
                                 .berths = setup_.berth_directory,
                                 .shares = setup_.directory,
                                 .shown = setup_.mount.mounter ? std::string() : setup_.directory};
    setup.backends = manager::make_backends(view);
    setup.list_keys = [view](const manager::LookUpQuestion& question) { return manager::list_keys(view, question); };
    setup.ask_program = [view, directory = setup_.directory](const manager::LookUpQuestion& question) {
      return ask_for_share(view, directory, question);
    };
    setup.on_event = [this](const manager::Event& event) { on_event(event); };
    setup.on_output = [this](const std::string& share, std::string_view lines) { on_output(share, lines); };
    setup.store = state_.open_store();
    setup.store_ends_with_berth = !setup_.state;
    setup.host = state_.begin_host(setup.store.get(), clock_.wall_now());
    setup.on_host_change = [this](const manager::HostState& host) { state_.keep_host(host); };
    setup.before_unmount = [this](manager::Share& share, int root, bool force) {
      shares_->before_unmount(share, root, force);
    };
    setup.ask_root = manager::ask_root;
    setup.waiting_in = [this](const manager::Share& share) { return waiting_in(share); };
    setup.after_mount = [this](manager::Share& share) { shares_->on_mounted(share); };
    manager_ = TRY(manager::Manager::make(std::move(setup), setup_.configuration.catalog, clock_));
    setup_.configuration.catalog = {};
    return {};
  }

  /// The callers that wait for an answer of a share, in words.
  [[nodiscard]] std::string waiting_in(const manager::Share& share) const {
    const fuse::Unanswered found = shares_->unanswered_in(share);
    if (found.callers == 0) return "";
    const char* const wait = found.callers == 1 ? " caller waits" : " callers wait";
    return std::to_string(found.callers) + wait + ", the first in " + found.operation;
  }

  void make_file_systems() {
    shares_ = std::make_unique<fuse::ShareFs>(fuse::ShareFs::Setup{.manager = *manager_,
                                                                   .kept = &kept_memory_.fuse,
                                                                   .requests = &requests_,
                                                                   .open_files = limits_of_open_files(),
                                                                   .passthrough = &passthrough_});
    fuse::ControlSetup control;
    control.version = BERTH_VERSION;
    control.directory = setup_.directory;
    control.arguments = setup_.arguments;
    control.keeper = setup_.keeper_pid;
    control.server = sys::proc::own_process();  // /proc is the host's
    control.servers = record_.servers;
    control.events = &kept_memory_.fuse.events;
    control.logs = &kept_memory_.fuse.logs;
    control.upgrade = [this](std::uint64_t request, manager::DoneCallback done) {
      if (record_.upgrade_done == request) {
        return manager_->after_names_told(
            [done = std::make_shared<manager::DoneCallback>(std::move(done))] { (*done)({}); });
      }
      upgrade_.ask(request, std::move(done));
    };
    control.reload = [this](bool dry_run, manager::DoneCallback done) { reloader_.ask(dry_run, std::move(done)); };
    control.last_reload = [this] { return reloader_.last_answer(); };
    control.sources = [this] { return sources_.views(); };
    control.group = setup_.configuration.settings.control.group;
    control.readable_by_everyone = setup_.configuration.settings.control.readable_by_everyone;
    control.owner = ::geteuid();
    control.max_nodes = setup_.configuration.settings.max_nodes;
    control.nodes = [this] { return shares_->counts().nodes; };
    control.load = [this] {
      fuse::InFlight& in_flight = session_->in_flight();
      return fuse::ServerLoad{.requests = in_flight.handled(),
                              .stuck_threads = in_flight.stuck_threads(),
                              .open_files = shares_->counts().handles};
    };
    control.users_of = [this](const manager::Share& share, const fuse::UsersWanted& wanted) {
      return shares_->users_of(share, wanted);
    };
    control.unanswered_in = [this](const manager::Share& share) { return shares_->unanswered_in(share); };
    control_ = std::make_unique<fuse::ControlTree>(*manager_, clock_, std::move(control));
    tree_ = control_.get();
    names_ = std::make_unique<fuse::Namespace>(
        fuse::Namespace::Setup{.manager = *manager_,
                               .shares = *shares_,
                               .control_root = [this] { return control_->root_entry(); },
                               .control_attributes = [this] { return control_->root_attributes(); },
                               .directories = &kept_memory_.fuse.directories,
                               .servers = record_.servers,
                               .inode_bits = static_cast<unsigned>(setup_.configuration.settings.inode_bits)});
  }

  /// An overmount that an earlier server left is in use, or will be found idle. Before the first request, because that
  /// may want to overmount what is overmounted already.
  void take_over_native() {
    const Result<std::vector<std::string>> names = native_->take_over(clock_.now() + kAgentPatience);
    if (!names) return log::warning("native access: {}", names.error().message());
    const std::vector<std::string> untold = manager_->untold();
    for (const std::string& name : *names) {
      // What lies there is of a share that had the name before.
      if (std::find(untold.begin(), untold.end(), name) != untold.end()) {
        take_off_stale(name);
        continue;
      }
      if (const std::shared_ptr<manager::Share> share = manager_->find(name)) manager_->take_over_native(*share);
    }
  }

  void take_off_stale(const std::string& name) {
    using When = manager::NativeAccess::When;
    if (const auto taken = native_->remove_unknown_overmount(name, When::kAlways, clock_.now() + kAgentPatience);
        !taken) {
      log::warning("native access: {}: {}", quote(name), taken.error().message());
    }
  }

  /// What a predecessor has mounted.
  [[nodiscard]] std::uint32_t count_mounted() const {
    const auto shares = manager_->directory();
    return static_cast<std::uint32_t>(std::count_if(shares->begin(), shares->end(),
                                                    [](const auto& entry) { return !entry.second->gate().closed(); }));
  }

  /// On the control thread.
  void on_event(const manager::Event& event) {
    event_writer_.write(event);
    if (fuse::ControlTree* const tree = tree_.load()) tree->count_event(event);
    if (event.kind == manager::Event::Kind::kMounted) ++mounted_;
    if (event.kind == manager::Event::Kind::kUnmounted && mounted_ > 0) --mounted_;
    if (event.kind == manager::Event::Kind::kMounted || event.kind == manager::Event::Kind::kUnmounted) send_counts();
  }

  /// On the thread that reads what the program writes.
  void on_output(const std::string& share, std::string_view lines) {
    event_writer_.write_output(share, lines);
    // What a program has written that was taken over, before there is a tree.
    if (fuse::ControlTree* const tree = tree_.load()) tree->append_output(share, lines);
  }

  void send_counts() const {
    setup_.servers_end.send({.kind = Message::Kind::kCounts,
                             .shares = static_cast<std::uint32_t>(manager_->directory()->size()),
                             .mounted = mounted_});
  }

  /// On a thread of its own.
  void serve() {
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

  /// Whether the channel has ended, or does within a moment.
  [[nodiscard]] bool channel_ends_soon() const {
    pollfd served{served_.get(), POLLIN, 0};
    return ::poll(&served, 1, static_cast<int>(kChannelPatience.count())) > 0;
  }

  /// Until the channel has ended, the keeper asks to stop, or is gone. False when it is gone.
  bool wait_for_end() {
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
      std::array<pollfd, 4> ready{{{served_.get(), POLLIN, 0},
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

  /// Handles the keeper's other messages too: those for the caller that asked for an upgrade.
  bool is_told_to_stop() {
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
    if ((*message)->kind == Message::Kind::kAccepted) {
      // Else the next server answers, which knows that it worked.
      if (!resends_ || !kernel_resends()) upgrade_.accept();
      setup_.servers_end.send({.kind = Message::Kind::kAnswered});
      return false;
    }
    return true;
  }
  /// True when it was SIGTERM.
  static bool on_signal(int signal) {
    bool stop = false;
    signalfd_siginfo info{};
    while (::read(signal, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      stop = stop || info.ssi_signo == static_cast<std::uint32_t>(SIGTERM);
    }
    return stop;
  }

  void stop(bool keeper_lives) {
    // However it has learnt that it must stop: the namespace may have been gone before the keeper sent that.
    setup_.servers_end.send({.kind = Message::Kind::kStopping});
    upgrade_.end(Error(ESHUTDOWN));
    reloader_.stop();
    sources_.stop();
    if (!keeper_lives) {
      // The namespace stays mounted and answers errors, until the next start puts another one in its place: without it,
      // what is written there would land on the host's own disk.
      log::warning("the keeper is gone: stopping");
    }
    std::atomic<bool> stopped{false};
    std::thread force([this, &stopped, keeper_lives] { wait_for_force(stopped, keeper_lives); });
    const TimePoint deadline = clock_.now() + setup_.configuration.settings.stop_timeout;
    const manager::Manager::StopReport report = manager_->stop(deadline);
    given_up_ = report.given_up;
    stopped = true;
    force.join();
    log::info("stopped: {} {} unmounted, {} given up", report.unmounted, report.unmounted == 1 ? "share" : "shares",
              report.given_up);
    workers_->stop();
  }

  /// A second request to stop, the end of the channel or of the keeper: callers that are still inside are given up.
  void wait_for_force(const std::atomic<bool>& stopped, bool keeper_lives) {
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

  int finish() {
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

  /// A switch for tests: pretends a kernel before 6.9.
  const bool resends_ = !is_switched_off("BERTH_NO_RESEND");
  ServerSetup& setup_;  ///< the server's own copy, from the moment of the start
  KeptDaemon& record_;
  KeptMemory& kept_memory_;
  std::vector<int> inherited_;  ///< sorted
  fuse::Requests requests_;
  const SystemClock clock_;
  ServerState state_{setup_};
  UpgradeRequest upgrade_{record_, setup_.servers_end};
  UniqueFd host_;  ///< the host's mount namespace
  const std::string source_directory_ = config::source_directory(setup_.configuration.settings.state_dir,
                                                                 setup_.configuration.settings.namespace_directory);
  Reloader reloader_{{.file = setup_.configuration_file,
                      .command_line = command_line_in_force(),
                      .settings = setup_.configuration.settings,
                      .record = record_,
                      .on_read = [this](const config::Configuration& read) { on_configuration(read); }}};
  CatalogSources sources_{{.directory = source_directory_, .namespace_directory = setup_.directory, .changed = [this] {
                             reloader_.on_sources();
                           }}};
  UniqueFd served_;  ///< readable when the channel has ended
  std::size_t given_up_ = 0;
  bool clean_end_ = false;                         ///< of the channel; written before served_ is, read after
  std::atomic<fuse::ControlTree*> tree_{nullptr};  ///< control_, for threads that are there before it is
  EventWriter event_writer_{{.log = log_event,
                             .events =
                                 [this](const manager::Event& event) {
                                   if (fuse::ControlTree* const tree = tree_.load()) tree->append_event(event);
                                 },
                             .output = log_output}};
  std::unique_ptr<NativeShares> native_;
  std::unique_ptr<manager::Manager> manager_;
  fuse::Passthrough passthrough_;
  std::unique_ptr<fuse::ShareFs> shares_;
  std::unique_ptr<fuse::ControlTree> control_;
  std::unique_ptr<fuse::Namespace> names_;
  std::unique_ptr<fuse::Session> session_;
  std::unique_ptr<fuse::NodePruner> pruner_;
  std::unique_ptr<fuse::Workers> workers_;
  std::atomic<std::uint32_t> mounted_{0};
};

}  // namespace

namespace {

/// A fault of the server names the request that it came with, for the next server; then it ends this one as ever.
void note_faults() {
  struct sigaction action {};
  action.sa_handler = [](int) { fuse::CurrentRequest::note_fatal(); };
  // The instruction is done again, or abort(3) raises the signal again.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS}) ::sigaction(signal, &action, nullptr);
}

}  // namespace

void run_server(ServerSetup& setup, std::vector<int> inherited) {
  ::umask(0);
  narrow_to(Role::kServer);
  if (::chdir("/") != 0) log::warning("cannot leave the working directory: {}", Error::last().message());
  static_cast<void>(sys::set_oom_score(sys::kServerOomScore));
  // The keeper speaks for both, and no helper shall.
  for (const char* const variable : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(variable);
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
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
