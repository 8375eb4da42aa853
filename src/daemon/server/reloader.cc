#include "src/daemon/server/reloader.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "src/config/read_files.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/base/told.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/namespaces.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/thread.h"
#include "src/lib/sys/time_left.h"

namespace berth::daemon {
namespace {

/// How long drop-ins must have been left alone before they are read: editors and package managers write several times.
constexpr std::chrono::milliseconds kSettle{200};
constexpr std::uint32_t kChanges =
    IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

/// What of the settings another configuration says, and no reload changes.
std::vector<std::string> unchanged_settings(const config::Settings& now, const config::Settings& wanted) {
  std::vector<std::string> names;
  const auto compare = [&names](const char* name, const auto& a, const auto& b) {
    if (!(a == b)) names.emplace_back(name);
  };
  compare("namespace", now.namespace_directory, wanted.namespace_directory);
  compare("state_dir", now.state_dir, wanted.state_dir);
  compare("takeover_timeout", now.takeover_timeout, wanted.takeover_timeout);
  compare("crash_limit", now.crash_limit, wanted.crash_limit);
  compare("crash_window", now.crash_window, wanted.crash_window);
  compare("stop_timeout", now.stop_timeout, wanted.stop_timeout);
  compare("max_concurrent_mounts", now.max_concurrent_mounts, wanted.max_concurrent_mounts);
  compare("max_mounts_per_server", now.max_mounts_per_server, wanted.max_mounts_per_server);
  compare("max_instances", now.max_instances, wanted.max_instances);
  compare("max_instances_per_template", now.max_instances_per_template, wanted.max_instances_per_template);
  compare("max_instances_per_user", now.max_instances_per_user, wanted.max_instances_per_user);
  compare("max_nodes", now.max_nodes, wanted.max_nodes);
  compare("inode_bits", now.inode_bits, wanted.inode_bits);
  compare("[control]", now.control, wanted.control);
  return names;
}

std::string told(const std::vector<std::string>& unchanged) {
  std::string text;
  for (const std::string& name : unchanged) text.append(text.empty() ? "" : ", ").append(name);
  if (text.empty()) return text;
  return "not changed by a reload: " + text +
         "; `berth upgrade` reads these again, and a restart `namespace` and `state_dir`\n";
}

/// Catalog sources that come, change and go, one line each.
std::string told(const std::vector<config::CatalogSource>& before, const std::vector<config::CatalogSource>& after) {
  using config::CatalogSource;
  const auto find = [](const std::vector<CatalogSource>& all, const std::string& name) {
    return std::find_if(all.begin(), all.end(), [&](const CatalogSource& source) { return source.name == name; });
  };
  std::string text;
  for (const CatalogSource& source : after) {
    const auto old = find(before, source.name);
    if (old != before.end() && *old == source) continue;
    text += "catalog source " + source.name + (old == before.end() ? ": added" : ": changed, its program starts anew");
    const std::string& program = source.program.front();
    const bool is_path = program.find('/') != std::string::npos;
    if (is_path ? ::access(program.c_str(), X_OK) != 0 : sys::find_program(program).empty())
      text += "; " + prose(program) + " cannot be started: " + errno_text(is_path ? errno : ENOENT);
    text += "\n";
  }
  for (const CatalogSource& source : before) {
    if (find(after, source.name) == after.end()) text += "catalog source " + source.name + ": removed\n";
  }
  return text;
}

/// As many warnings as there is room for in what is kept of an answer; the others are counted.
std::string told(const std::string& text, const std::vector<std::string>& warnings) {
  constexpr std::size_t kMost = 10;
  constexpr std::size_t kRoom = KeptDaemon::kReloadAnswer - sizeof "100000 more warnings: `berth check` tells them\n";
  std::string all = text;
  std::size_t count = 0;
  for (; count < std::min(warnings.size(), kMost); ++count) {
    const std::string line = "warning: " + warnings[count] + "\n";
    if (all.size() + line.size() > kRoom) break;
    all += line;
  }
  if (const std::size_t left = warnings.size() - count; left > 0) {
    all.append(std::to_string(left)).append(count == 0 ? "" : " more").append(left == 1 ? " warning" : " warnings");
    all.append(": `berth check` tells ").append(left == 1 ? "it\n" : "them\n");
  }
  return all;
}

/// "" where there is no configuration file.
std::string drop_ins_of(const std::string& configuration_file) {
  if (configuration_file.empty()) return "";
  return std::filesystem::path(configuration_file).parent_path() / "shares.d";
}

void wake(const UniqueFd& event) noexcept {
  const std::uint64_t one = 1;
  if (::write(event.get(), &one, sizeof one) < 0) {
  }  // one that is full is readable, which is all that is wanted
}

void empty(const UniqueFd& event) noexcept {
  std::uint64_t count = 0;
  if (::read(event.get(), &count, sizeof count) < 0) {
  }
}

}  // namespace

std::int64_t drop_ins_changed_at(const std::string& configuration_file) {
  const std::string directory = drop_ins_of(configuration_file);
  struct stat attributes {};
  if (directory.empty() || ::stat(directory.c_str(), &attributes) != 0) return -1;
  return std::int64_t{attributes.st_mtim.tv_sec} * 1'000'000'000 + attributes.st_mtim.tv_nsec;
}

/// The thread's own.
class Reloader::Work {
 public:
  Work(Setup setup, std::shared_ptr<Shared> shared, manager::Manager& manager, int host)
      : setup_(std::move(setup)), shared_(std::move(shared)), manager_(manager), host_(host) {}

  void run() {
    // Where sources and files are looked up: on the host. For good, for watches are set there as well.
    Result<sys::MountNamespaceVisit> visit = sys::MountNamespaceVisit::enter(host_);
    if (!visit) log::warning("the configuration is read in the server's mount namespace: {}", visit.error().message());
    watch();
    catch_up();
    for (;;) {
      wait();
      if (is_stopped()) return;
      while (std::optional<Request> request = next()) reload(std::move(*request));
      if (settled_at_ && std::chrono::steady_clock::now() >= *settled_at_) {
        settled_at_.reset();
        reload({});
      }
      if (setup_.record.reload_wanted != setup_.record.reload_done && !settled_at_) reload({});
      if (sources_changed() && !settled_at_) reload({});
    }
  }

 private:
  /// What was asked for, or has changed, while no server was there.
  void catch_up() {
    if (setup_.record.drop_ins_changed != drop_ins_changed_at(setup_.file)) {
      settled_at_ = std::chrono::steady_clock::now() + kSettle;
    }
    const bool is_behind = setup_.record.reload_wanted != setup_.record.reload_done || sources_changed();
    if (is_behind) wake(shared_->wake);
  }

  /// The directory of drop-ins, and the one above it, where it may be made.
  void watch() {
    if (drop_ins_.empty()) return;
    inotify_ = UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!inotify_) return log::warning("drop-ins are not watched: {}", Error::last().message());
    above_ = ::inotify_add_watch(inotify_.get(), std::filesystem::path(drop_ins_).parent_path().c_str(),
                                 IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
    below_ = ::inotify_add_watch(inotify_.get(), drop_ins_.c_str(), kChanges);
  }

  void wait() {
    const int timeout = settled_at_ ? sys::poll_timeout(*settled_at_) : -1;
    std::array<pollfd, 2> ready{{{shared_->wake.get(), POLLIN, 0}, {inotify_.get(), POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), timeout) <= 0) return;
    if (ready[0].revents != 0) empty(shared_->wake);
    if (ready[1].revents != 0) read_changes();
  }

  void read_changes() {
    alignas(inotify_event) std::array<char, 16384> bytes;
    for (ssize_t size = 0; (size = ::read(inotify_.get(), bytes.data(), bytes.size())) > 0;) {
      for (ssize_t at = 0; at < size;) {
        const auto* const event = reinterpret_cast<const inotify_event*>(bytes.data() + at);
        at += static_cast<ssize_t>(sizeof *event) + event->len;
        on_change(*event);
      }
    }
  }

  void on_change(const inotify_event& event) {
    const std::string_view name = event.len > 0 ? event.name : "";
    if (event.wd == above_ && above_ != below_) {
      if (name != "shares.d") return;
      below_ = ::inotify_add_watch(inotify_.get(), drop_ins_.c_str(), kChanges);
    } else if (!name.empty() && (name.front() == '.' || !name.ends_with(".toml"))) {
      return;
    }
    settled_at_ = std::chrono::steady_clock::now() + kSettle;
  }

  std::optional<Request> next() {
    MutexLock lock(shared_->mutex);
    if (shared_->requests.empty()) return std::nullopt;
    Request request = std::move(shared_->requests.front());
    shared_->requests.pop_front();
    return request;
  }
  [[nodiscard]] bool is_stopped() const {
    MutexLock lock(shared_->mutex);
    return shared_->stopped;
  }
  [[nodiscard]] bool sources_changed() const {
    MutexLock lock(shared_->mutex);
    return shared_->sources_changed;
  }
  void note_sources_read() {
    MutexLock lock(shared_->mutex);
    shared_->sources_changed = false;
  }

  void reload(Request request) {
    // What has settled by now is read below, and need not be read once more.
    if (!request.dry_run && inotify_) read_changes();
    if (!request.dry_run) settled_at_.reset();
    if (!request.dry_run) note_sources_read();
    const std::uint64_t wanted = setup_.record.reload_wanted;
    const std::int64_t changed = drop_ins_changed_at(setup_.file);
    crash_point("reload-begun");
    Result<config::Configuration> configuration = setup_.file.empty()
                                                      ? config::default_configuration(setup_.command_line)
                                                      : config::load(setup_.file, setup_.command_line, nullptr, &read_);
    if (!configuration) return refuse(std::move(request), configuration.error(), wanted, changed);
    if (!request.dry_run && setup_.on_read) setup_.on_read(*configuration);
    if (!begin_call()) return answer(request, fail(ESHUTDOWN));
    const bool dry_run = request.dry_run;
    Notes notes = notes_on(*configuration, request);
    manager_.reload(std::move(configuration->catalog), dry_run,
                    [shared = shared_, &record = setup_.record, notes = std::move(notes), request = std::move(request),
                     wanted, changed](Result<manager::ReloadReport> report) mutable {
                      if (!report) {
                        log::error("reload: refused, and going on as before: {}", report.error().message());
                        say(*shared, record, report.error().message() + "\n", request.dry_run);
                        return answer(request, fail(report.error()));
                      }
                      const std::string summary = to_string(*report) + "\n";
                      const bool is_all = report->is_empty() && !notes.sources.empty();
                      say(*shared, record,
                          told((is_all ? "" : summary) + notes.sources + notes.unchanged, notes.warnings),
                          request.dry_run);
                      if (!request.dry_run) {
                        write_log(*report, summary, notes, request.done || wanted != record.reload_done);
                        end(record, wanted, changed);
                      }
                      answer(request, {});
                    });
    MutexLock lock(shared_->mutex);
    shared_->is_calling = false;
    shared_->called.notify_all();
  }

  /// What there is to say of a configuration beside its shares. Each line ends with a line break.
  struct Notes {
    std::string sources;
    std::string unchanged;
    std::vector<std::string> warnings;  ///< those first that the configuration before did not have
    std::size_t new_warnings = 0;
  };

  Notes notes_on(config::Configuration& configuration, const Request& request) {
    Notes notes{.sources = told(sources_, configuration.sources),
                .unchanged = told(unchanged_settings(setup_.settings, configuration.settings)),
                .warnings = std::move(configuration.warnings)};
    const auto is_new = [this](const std::string& warning) { return !warnings_.contains(warning); };
    const auto others = std::stable_partition(notes.warnings.begin(), notes.warnings.end(), is_new);
    notes.new_warnings = static_cast<std::size_t>(others - notes.warnings.begin());
    if (request.dry_run) return notes;
    sources_ = std::move(configuration.sources);
    warnings_ = {notes.warnings.begin(), notes.warnings.end()};
    return notes;
  }

  /// Where it was a drop-in or a catalog source that changed, or changed again, there is mostly nothing to say.
  static void write_log(const manager::ReloadReport& report, std::string_view summary, const Notes& notes,
                        bool is_asked) {
    const auto write_lines = [](log::Level level, std::string_view lines) {
      for (const std::string_view line : split(lines, '\n')) {
        if (!line.empty()) log::write(level, "reload: " + std::string(line));
      }
    };
    write_lines(is_asked || !report.is_empty() ? log::Level::kInfo : log::Level::kDebug, summary);
    write_lines(log::Level::kInfo, notes.sources);
    write_lines(log::Level::kWarning, notes.unchanged);
    const std::size_t count = is_asked ? notes.warnings.size() : notes.new_warnings;
    for (std::size_t i = 0; i < count; ++i) log::warning("reload: {}", notes.warnings[i]);
  }

  /// False: the manager is not to be called any more.
  bool begin_call() {
    MutexLock lock(shared_->mutex);
    shared_->is_calling = !shared_->stopped;
    return shared_->is_calling;
  }

  void refuse(Request request, const Error& error, std::uint64_t wanted, std::int64_t changed) {
    const std::string story = told(error);
    for (const std::string_view line : split(story, '\n'))
      log::error("reload: refused, and going on as before: {}", line);
    say(*shared_, setup_.record, story + "\n", request.dry_run);
    // Asked again it would say the same.
    if (!request.dry_run) end(setup_.record, wanted, changed);
    answer(request, fail(EINVAL, story));
  }

  static void end(KeptDaemon& record, std::uint64_t wanted, std::int64_t changed) noexcept {
    record.reload_done = wanted;
    record.drop_ins_changed = changed;
  }
  /// For the next server as well, unless it was only tried.
  static void say(Shared& shared, KeptDaemon& record, const std::string& text, bool dry_run) {
    MutexLock lock(shared.mutex);
    if (dry_run) {
      shared.dry_run_answer = text;
      return;
    }
    const std::uint64_t next = record.reload_answers + 1;
    char* const kept = record.answers[next % 2];
    kept[text.copy(kept, KeptDaemon::kReloadAnswer - 1)] = '\0';
    record.reload_answers = next;
    shared.answer = text;
  }
  static void answer(Request& request, Result<> result) {
    if (request.done) request.done(std::move(result));
  }

  const Setup setup_;
  const std::shared_ptr<Shared> shared_;
  manager::Manager& manager_;
  const int host_;
  const std::string drop_ins_ = drop_ins_of(setup_.file);  ///< directory; "": there is none
  config::ReadFiles read_;
  UniqueFd inotify_;
  int above_ = -1, below_ = -1;
  std::optional<TimePoint> settled_at_;  ///< when drop-ins that have changed are read
  std::vector<config::CatalogSource> sources_ = setup_.sources;
  std::set<std::string> warnings_{setup_.warnings.begin(), setup_.warnings.end()};
};

Reloader::Reloader(Setup setup) : setup_(std::move(setup)) {
  shared_->wake = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const std::uint64_t answers = setup_.record.reload_answers;
  MutexLock lock(shared_->mutex);
  if (answers != 0) shared_->answer = setup_.record.answers[answers % 2];
}

Result<> Reloader::start(manager::Manager& manager, int host) {
  if (!shared_->wake) return fail(EMFILE);
  std::thread thread = TRY(sys::start_thread("berth-reload", [setup = setup_, shared = shared_, &manager, host] {
    Work(setup, shared, manager, host).run();
  }));
  thread.detach();
  return {};
}

void Reloader::stop() noexcept {
  std::deque<Request> requests;
  {
    MutexLock lock(shared_->mutex);
    shared_->stopped = true;
    requests.swap(shared_->requests);
    while (shared_->is_calling) shared_->called.wait(shared_->mutex);
  }
  for (Request& request : requests) {
    if (request.done) request.done(fail(ESHUTDOWN));
  }
  wake(shared_->wake);
}

bool Reloader::accept(Request& request) {
  MutexLock lock(shared_->mutex);
  if (!shared_->stopped) shared_->requests.push_back(std::move(request));
  return !shared_->stopped;
}

void Reloader::ask(bool dry_run, manager::DoneCallback done) {
  Request request{.dry_run = dry_run, .done = std::move(done)};
  if (!accept(request)) return request.done(fail(ESHUTDOWN));
  wake(shared_->wake);
}

void Reloader::ask() { wake(shared_->wake); }

void Reloader::on_sources() {
  {
    MutexLock lock(shared_->mutex);
    shared_->sources_changed = true;
  }
  wake(shared_->wake);
}

std::string Reloader::last_dry_run() const {
  MutexLock lock(shared_->mutex);
  return shared_->dry_run_answer;
}

std::string Reloader::last_answer() const {
  MutexLock lock(shared_->mutex);
  return shared_->answer;
}

}  // namespace berth::daemon
