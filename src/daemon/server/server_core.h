#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fuse/control/control_tree.h"
#include "fuse/root/namespace.h"
#include "fuse/session/passthrough.h"
#include "fuse/session/session.h"
#include "fuse/shares/share_fs.h"
#include "fuse/workers/workers.h"
#include "manager/engine/manager.h"
#include "src/daemon/common/kept_memory.h"
#include "src/daemon/native/native_shares.h"
#include "src/daemon/server/catalog_sources.h"
#include "src/daemon/server/event_writer.h"
#include "src/daemon/server/log_event.h"
#include "src/daemon/server/reloader.h"
#include "src/daemon/server/server_setup.h"
#include "src/daemon/server/server_state.h"
#include "src/daemon/server/upgrade_request.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/test_switch.h"

namespace berth::daemon {

/// Everything that serves, in the order in which it is made.
///
/// Threading: the first thread of the server makes it, runs it and ends it; what the layers call back says on which
/// thread.
class Server {
 public:
  Server(ServerSetup& setup, std::vector<int> inherited);

  /// Serves until the end. Answers the exit status of the process.
  int run();

 private:
  Result<> start(UniqueFd host);
  /// For another reading of the configuration: where shares of sources are kept stays as it is.
  [[nodiscard]] config::CommandLine command_line_in_force() const;
  void start_sources(bool takes_over);
  /// On the thread that reads the configuration.
  void on_configuration(const config::Configuration& configuration);
  /// Whether shares or templates of that origin are in force.
  [[nodiscard]] bool has_shares(const std::string& origin) const;
  /// By a thread that does nothing. A thread that is killed in a request to a share that hangs does not end before that
  /// is answered, and until the last thread has ended no process is notified of the process's end. Where the thread's
  /// pidfd cannot be had (before Linux 6.9), the keeper has to wait for that.
  void publish_liveness();
  /// A caller that opens as many files as it can must not keep the next server from its start, which shares the table
  /// of descriptors. The next server starts under the keeper's limit, not this one's.
  static void reserve_descriptors();
  /// With the limit as reserve_descriptors() leaves it.
  static fuse::OpenFiles::Limits limits_of_open_files();
  Result<> make_manager();
  /// The callers that wait for an answer of a share, in words.
  [[nodiscard]] std::string waiting_in(const manager::Share& share) const;
  void make_file_systems();
  /// Takes over everything that a dead server had, or closes it.
  void take_over();
  void finish_take_over();
  /// An overmount that an earlier server left is in use, or will be found idle. Before the first request, because that
  /// may want to overmount what is overmounted already.
  void take_over_native();
  void take_off_stale(const std::string& name);
  /// What a predecessor has mounted.
  [[nodiscard]] std::uint32_t count_mounted() const;
  /// Directories that --share names and that are not there: `berth check` does not see them. Does not wait.
  void warn_of_absent_sources() const;
  /// On the control thread.
  void on_event(const manager::Event& event);
  /// On the thread that reads what the program writes.
  void on_output(const std::string& share, std::string_view lines);
  void send_counts() const;
  /// On a thread of its own.
  void serve();
  /// Whether the channel has ended, or does within a moment.
  [[nodiscard]] bool channel_ends_soon() const;
  /// Until the channel has ended, the keeper asks to stop, or is gone. False when it is gone.
  bool wait_for_end();
  /// Handles the keeper's other messages too: those for the caller that asked for an upgrade.
  bool is_told_to_stop();
  /// Reads no more requests, and waits a moment for the answers of those that were read.
  void finish_requests();
  /// True when it was SIGTERM.
  static bool on_signal(int signal);
  void stop(bool keeper_lives);
  /// A second request to stop, the end of the channel or of the keeper: callers that are still inside are given up.
  void wait_for_force(const std::atomic<bool>& stopped, bool keeper_lives);
  int finish();

  /// A switch for tests: pretends a kernel before 6.9.
  const bool resends_ = !is_switched_off("BERTH_NO_RESEND");
  bool is_ending_ = false;  ///< the keeper ends this server next
  ServerSetup& setup_;      ///< the server's own copy, from the moment of the start
  KeptDaemon& record_;
  KeptMemory& kept_memory_;
  std::vector<int> inherited_;  ///< sorted
  fuse::Requests requests_;
  fuse::UnwrittenPages unwritten_;
  const SystemClock clock_;
  ServerState state_{setup_};
  UpgradeRequest upgrade_{record_, setup_.servers_end};
  UniqueFd host_;  ///< the host's mount namespace
  const std::string source_directory_ = config::source_directory(setup_.configuration.settings.state_dir,
                                                                 setup_.configuration.settings.namespace_directory);
  Reloader reloader_{{.file = setup_.configuration_file,
                      .command_line = command_line_in_force(),
                      .settings = setup_.configuration.settings,
                      .sources = setup_.configuration.sources,
                      .warnings = setup_.configuration.warnings,
                      .record = record_,
                      .on_read = [this](const config::Configuration& read) { on_configuration(read); }}};
  CatalogSources sources_{{.directory = source_directory_,
                           .namespace_directory = setup_.directory,
                           .group = setup_.groups.questions.get(),
                           .changed = [this] { reloader_.on_sources(); },
                           .has_shares = [this](const std::string& origin) { return has_shares(origin); }}};
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
  std::shared_ptr<manager::ProgramGroups> groups_;  ///< null: none is delegated
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

}  // namespace berth::daemon
