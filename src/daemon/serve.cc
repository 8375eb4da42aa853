#include "src/daemon/serve.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/daemon/common/background.h"
#include "src/daemon/common/control_groups.h"
#include "src/daemon/common/kept_memory.h"
#include "src/daemon/common/link.h"
#include "src/daemon/common/namespace_mount.h"
#include "src/daemon/common/privileges.h"
#include "src/daemon/common/surroundings.h"
#include "src/daemon/common/user_mounter.h"
#include "src/daemon/keeper/first_process.h"
#include "src/daemon/keeper/keeper.h"
#include "src/daemon/keeper/upgrade.h"
#include "src/daemon/native/native_agent.h"
#include "src/daemon/server/reloader.h"
#include "src/daemon/server/server.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/inherited.h"
#include "src/lib/sys/memory.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/user_directories.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::daemon {
namespace {

void complain(const ServeOptions& options, const std::string& message) {
  std::fprintf(stderr, "%s: %s\n", options.background ? "mount.berth" : "berth: serve", message.c_str());
}

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

/// Errors: EACCES, EPERM; EINVAL for whatever else is wrong with it, that it is not there or too large included.
Result<config::Configuration> read_configuration(const ServeOptions& options) {
  Result<config::Configuration> configuration = options.config.empty()
                                                    ? config::default_configuration(options.command_line)
                                                    : config::load(options.config, options.command_line);
  if (!configuration) {
    const Error& error = configuration.error();
    const bool not_permitted = error.code() == EACCES || error.code() == EPERM;
    return fail(not_permitted ? error.code() : EINVAL, std::string(error.story()));
  }
  if (configuration->settings.namespace_directory.empty()) {
    return fail(EINVAL,
                "no namespace directory: give --namespace DIR, or set namespace = \"/volumes\" under [berth] in the "
                "configuration");
  }
  return configuration;
}

/// The directory on which each server mounts its private tmpfs. Held by a shared lock as long as a process needs it,
/// because removing a directory takes off what other mount namespaces have mounted on it.
class RunDirectory {
 public:
  static Result<RunDirectory> hold() {
    const std::string path = sys::default_run_directory();
    for (;;) {
      if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return fail(Error::last().within("cannot make " + quote(path)));
      Result<UniqueFd> directory = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!directory && directory.error().code() == ENOENT) continue;
      if (!directory) return fail(directory.error().within(path));
      struct stat mine {};
      struct stat named {};
      if (::flock(directory->get(), LOCK_SH) != 0 || ::fstat(directory->get(), &mine) != 0) return fail_errno();
      if (mine.st_uid != ::geteuid()) return fail(EPERM, quote(path) + " belongs to another user");
      // Another process may have removed it between open and lock.
      if (::stat(path.c_str(), &named) == 0 && named.st_ino == mine.st_ino)
        return RunDirectory(path, std::move(*directory));
    }
  }
  /// The directory that an earlier keeper holds.
  static RunDirectory take_over(int directory) {
    return {sys::proc::link_target("/proc/self/fd/" + std::to_string(directory)), UniqueFd(directory)};
  }
  [[nodiscard]] int fd() const noexcept { return directory_.get(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Removes it if no other process holds it.
  void remove() const noexcept {
    if (::flock(directory_.get(), LOCK_EX | LOCK_NB) == 0) ::rmdir(path_.c_str());
  }

 private:
  RunDirectory(std::string path, UniqueFd directory) noexcept
      : path_(std::move(path)), directory_(std::move(directory)) {}
  std::string path_;
  UniqueFd directory_;
};

/// For a binary that is executed in the keeper's place.
void note_namespace(KeptDaemon& record, const std::string& directory, const NamespaceMount& mount) {
  std::strncpy(record.directory, directory.c_str(), sizeof record.directory - 1);
  record.namespace_mount = mount.id;
  record.namespace_table_id = mount.table_id;
}

/// How long a berth that was killed may take to let go of what it had open.
constexpr std::chrono::seconds kStatePatience{3};

/// Where attachments are kept, made and locked; nothing: the configuration names no directory. One that cannot be used
/// is no reason not to serve: only callers that attach get its error.
/// Errors: EBUSY when another berth has it.
Result<std::optional<manager::StateDirectory>> open_state(const config::Settings& settings,
                                                          const std::string& directory) {
  if (settings.state_dir.empty()) return std::nullopt;
  manager::StateDirectory state(settings.state_dir, directory);
  const Result<bool> opened = state.open_after_others(std::chrono::steady_clock::now() + kStatePatience);
  if (!opened && opened.error().code() == EBUSY) return fail(opened.error());
  if (!opened) {
    log::warning("nothing can be attached: the state directory cannot be used: {}", opened.error().message());
  } else if (!*opened) {
    log::warning("{} is locked by what is left of a berth that was killed; going on", quote(state.path()));
  }
  return state;
}

std::string name_of(log::Level level) {
  switch (level) {
    case log::Level::kDebug:
      return "debug";
    case log::Level::kInfo:
      return "info";
    case log::Level::kWarning:
      return "warning";
    case log::Level::kError:
      return "error";
  }
  return "info";
}

/// The arguments of `berth serve` with the same meaning: also where mount(8) has started it, or from another working
/// directory.
std::vector<std::string> arguments_of(const ServeOptions& options) {
  std::vector<std::string> arguments{"serve", "--log-level", name_of(options.log_level)};
  const auto add = [&arguments](const char* option, const std::string& value) {
    if (!value.empty()) arguments.insert(arguments.end(), {option, value});
  };
  add("--config", options.config);
  add("--namespace", options.command_line.namespace_directory);
  add("--state-dir", options.command_line.state_dir);
  for (const std::string& share : options.command_line.quick_shares) add("--share", share);
  return arguments;
}

/// What is the keeper's: all that is not a server's (sys::occupy_copied_descriptors()).
std::set<int> own_of(const KeeperDescriptors& handed, int memory, const ControlGroups& groups) {
  std::set<int> own;
  for (int number = 0; number < sys::kCopiedDescriptors; ++number) own.insert(own.end(), number);
  own.insert({memory, handed.device, handed.keepers_end, handed.servers_end, handed.keeper, handed.signals,
              handed.run_directory, handed.state, handed.native_servers_end, handed.native_agents_end,
              handed.user_mounter, groups.delegated.get(), groups.questions.get()});
  return own;
}

/// The settings of the keeper before this one, without shares.
Result<config::Configuration> read_settings(const ServeOptions& options, const std::string& text) {
  const UniqueFd file(::memfd_create("berth-settings", MFD_CLOEXEC));
  if (!file) return fail_errno();
  TRY_VOID(sys::write_all(file.get(), text));
  Result<config::Configuration> settings = config::load(sys::proc_path(file.get()), options.command_line);
  if (settings) settings->catalog = {};
  return settings;
}

/// What a keeper goes on with that has executed this program. A configuration that has become wrong since the consent
/// (an editor has written half of it) must not end berth: then the shares are those that the servers have kept, and the
/// server reads it again.
Result<config::Configuration> read_to_go_on(const ServeOptions& options, const std::optional<std::string>& settings,
                                            KeptDaemon& record) {
  Result<config::Configuration> configuration = read_configuration(options);
  if (configuration) {
    ++record.configuration;
  } else {
    for (const std::string_view line : split(configuration.error().story(), '\n'))
      log::error("upgrade: the configuration cannot be read, and berth goes on with what it has: {}", line);
    configuration = settings ? read_settings(options, *settings) : fail(configuration.error());
    record.sources_changed = true;  // so it is read again, and what is said of it is the last reload's
  }
  return configuration;
}

/// In the place of a keeper that has executed this program: takes over all that it had.
Result<int> go_on(const ServeOptions& options, int memory_descriptor, const std::optional<std::string>& settings,
                  ControlGroups groups) {
  const sys::SharedMemory memory = TRY(sys::SharedMemory::map(UniqueFd(memory_descriptor), sizeof(KeptMemory)));
  auto& record = *reinterpret_cast<KeptDaemon*>(memory.data());
  record.upgrade_done = record.upgrade_request.load();
  const KeeperDescriptors handed = record.keeper_descriptors;
  record.drop_ins_changed = drop_ins_changed_at(options.config);
  record.sources_changed = false;
  config::Configuration configuration = TRY(read_to_go_on(options, settings, record));
  for (const std::string& warning : configuration.warnings) log::warning("{}", warning);
  const std::string directory = record.directory;
  std::optional<manager::StateDirectory> state;
  if (handed.state >= 0) {
    state.emplace(configuration.settings.state_dir, directory, UniqueFd(handed.state));
  } else if (!configuration.settings.state_dir.empty()) {
    state.emplace(configuration.settings.state_dir, directory);
  }
  const RunDirectory run_directory = RunDirectory::take_over(handed.run_directory);
  const UniqueFd signals(handed.signals);
  ServerSetup setup{
      .configuration = std::move(configuration),
      .configuration_number = record.configuration,
      .configuration_file = options.config,
      .command_line = options.command_line,
      .arguments = arguments_of(options),
      .directory = directory,
      .mount = {.id = record.namespace_mount,
                .table_id = record.namespace_table_id,
                .mounter = handed.user_mounter < 0
                               ? nullptr
                               : std::make_shared<const UserMounter>(UserMounter::of_descriptor(handed.user_mounter))},
      .device = handed.device,
      .keepers_end = Link::of_descriptor(handed.keepers_end),
      .servers_end = Link::of_descriptor(handed.servers_end),
      .agent = NativeAgent::take_over(NativeChannel::of_descriptor(handed.native_servers_end),
                                      NativeChannel::of_descriptor(handed.native_agents_end), handed.agent),
      .keeper_pid = ::getpid(),
      .keeper = UniqueFd(handed.keeper),
      .first_process = handed.first_process,
      .memory = &memory,
      .state = std::move(state),
      .berth_directory = run_directory.path(),
      .run_directory = handed.run_directory,
      .background = handed.background,
      .groups = std::move(groups)};
  Background nobody_waits;
  Keeper the_keeper(setup, nobody_waits, own_of(handed, memory_descriptor, setup.groups));
  TRY_VOID(the_keeper.start_server());
  sys::release_idle_memory();
  const int code = the_keeper.run(signals.get());
  run_directory.remove();
  return code;
}

/// Whether this program could take over from a keeper whose records have that version.
Result<int> check_take_over(const ServeOptions& options, const std::string& version) {
  if (version != record_version()) {
    return fail(EINVAL, "its records have version " + version + ", and this program knows " + record_version());
  }
  TRY_VOID(read_configuration(options).map([](const config::Configuration&) {}));
  std::puts(consent().c_str());
  return EXIT_SUCCESS;
}

/// Mounts the namespace for the user's programs on the host where that can be, else in this berth's own mount namespace
/// alone.
Result<NamespaceMount> mount_for_user(const std::shared_ptr<const UserMounter>& mounter, UniqueFd& device,
                                      const std::string& directory) {
  // fusermount3(1) opens it with the rights of the same user, and would say in other words that it cannot.
  UniqueFd own_device = TRY(open_fuse_device());
  Result<UniqueFd> mounted = mounter ? mounter->mount(directory) : fail(ENOENT);
  if (mounted) {
    device = *std::move(mounted);
    // Where mounts of the host arrive here, this one has: it would keep the connection from ending with the last user.
    (void)sys::unmount(directory, MNT_DETACH);
    return NamespaceMount{.mounter = mounter};
  }
  log::info("only programs that `berth exec` and `berth shell` start see {}", quote(directory));
  device = std::move(own_device);
  return mount_namespace(device.get(), directory);
}

Result<int> serve_until_stopped(const ServeOptions& options, Background& background,
                                const std::shared_ptr<const UserMounter>& mounter, ControlGroups groups) {
  const sys::SharedMemory memory = TRY(make_kept_memory());
  auto& record = *new (memory.data()) KeptDaemon;
  // Before there is a configuration to copy. Without the right to it, a wrong configuration is reported first all the
  // same.
  const Result<pid_t> first_process = start_first_process(record);
  Result<NativeAgent> agent = NativeAgent::start();
  record.drop_ins_changed = drop_ins_changed_at(options.config);
  config::Configuration configuration = TRY(read_configuration(options));
  for (const std::string& warning : configuration.warnings) log::warning("{}", warning);
  const std::string directory = TRY(prepare_namespace_directory(configuration.settings.namespace_directory));
  std::optional<manager::StateDirectory> state = TRY(open_state(configuration.settings, directory));
  UniqueFd device;
  if (!sys::is_own_root()) device = TRY(open_fuse_device());
  if (!first_process) return fail(first_process.error());
  if (!agent) return fail(agent.error());
  const RunDirectory run_directory = TRY(RunDirectory::hold());
  const UniqueFd signals = TRY(Keeper::block_signals());
  auto [keepers_end, servers_end] = TRY(Link::make_pair());
  UniqueFd keeper = TRY(sys::open_process(::getpid()));
  const NamespaceMount mount =
      TRY(sys::is_own_root() ? mount_for_user(mounter, device, directory) : mount_namespace(device.get(), directory));
  note_namespace(record, directory, mount);

  ServerSetup setup{.configuration = std::move(configuration),
                    .configuration_number = ++record.configuration,
                    .configuration_file = options.config,
                    .command_line = options.command_line,
                    .arguments = arguments_of(options),
                    .directory = directory,
                    .mount = mount,
                    .device = device.release(),
                    .keepers_end = std::move(keepers_end),
                    .servers_end = std::move(servers_end),
                    .agent = *std::move(agent),
                    .keeper_pid = ::getpid(),
                    .keeper = std::move(keeper),
                    .first_process = *first_process,
                    .memory = &memory,
                    .state = std::move(state),
                    .berth_directory = run_directory.path(),
                    .run_directory = run_directory.fd(),
                    .background = options.background,
                    .groups = std::move(groups)};
  Keeper the_keeper(setup, background);
  if (const Result<> started = the_keeper.start_server(); !started) {
    (void)unmount_namespace(mount, directory);
    return fail(started.error());
  }
  sys::release_idle_memory();
  const int code = the_keeper.run(signals.get());
  run_directory.remove();
  return code;
}

}  // namespace

int serve(const ServeOptions& options) {
  const std::optional<std::string> version = is_asked_for_consent();
  const std::optional<int> memory = inherited_memory();
  const std::optional<std::string> settings = inherited_settings();
  log::start(options.log_level);
  if (const Result<> settled = settle_surroundings(memory.has_value()); !settled) {
    complain(options, settled.error().message());
    return exit_code_of(settled.error());
  }
  ControlGroups groups = version ? ControlGroups() : enter_control_groups();
  std::shared_ptr<const UserMounter> mounter;
  if (::geteuid() != 0) {
    if (Result<UserMounter> started = UserMounter::start())
      mounter = std::make_shared<const UserMounter>(*std::move(started));
    if (const Result<> became = sys::become_own_root(); !became) {
      complain(options, became.error().message());
      return exit_code_of(became.error());
    }
  }
  narrow_to(Role::kBegin);
  Background background;
  if (options.background && !version && !memory) {
    const Result<std::optional<int>> callers = background.daemonize();
    if (!callers) {
      complain(options, callers.error().message());
      return kExitOs;
    }
    if (*callers) return **callers;
  }
  const Result<int> code = version  ? check_take_over(options, *version)
                           : memory ? go_on(options, *memory, settings, std::move(groups))
                                    : serve_until_stopped(options, background, mounter, std::move(groups));
  if (code) return *code;
  // A wrong configuration is reported line by line; the errno would only blur it.
  complain(options, code.error().code() == EINVAL && !code.error().story().empty() ? std::string(code.error().story())
                                                                                   : code.error().message());
  return exit_code_of(code.error());
}

}  // namespace berth::daemon
