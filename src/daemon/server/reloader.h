#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "manager/engine/manager.h"
#include "src/config/config.h"
#include "src/daemon/common/kept_daemon.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// When the directory of drop-ins beside a configuration file was last changed, for KeptDaemon::drop_ins_changed. Taken
/// before the configuration is read, so that a drop-in that comes meanwhile is seen as a change. In nanoseconds since
/// 1970; -1: it is not there.
std::int64_t drop_ins_changed_at(const std::string& configuration_file);

/// Reads the configuration again while berth serves, and has the manager put its shares in force: when it is asked to,
/// when the keeper was (SIGHUP), and when a drop-in has changed. A configuration with a mistake is refused whole, and
/// the old one goes on.
///
/// Threading: any thread may call anything. Reading is done on a thread of its own, which may block, in the host's
/// mount namespace.
class Reloader {
 public:
  struct Setup {
    std::string file;  ///< "": what the command line says is all there is
    config::CommandLine command_line;
    config::Settings settings;                   ///< in force: most of them no reload can change
    std::vector<config::CatalogSource> sources;  ///< in force
    std::vector<std::string> warnings;           ///< of the configuration in force: these are in the log already
    KeptDaemon& record;                          ///< outlives this
    /// A configuration that was read is put in force. On the thread that reads.
    std::function<void(const config::Configuration&)> on_read;
  };

  explicit Reloader(Setup setup);

  /// Begins to serve. `host`: the host's mount namespace. `manager`: outlives this, and calls no callback after it is
  /// gone. What an earlier server was asked for, or may have missed, is done. Errors: EAGAIN, EMFILE.
  Result<> start(manager::Manager& manager, int host);
  /// No call of the manager is under way after it, nor comes. It does not wait for a file: a thread that reads from a
  /// server that does not answer is left to the end of the process.
  void stop() noexcept;

  /// Answers when it is in force, or for `dry_run` when it is known what would be. Errors: EINVAL for a mistake in the
  /// configuration, and those of Manager::reload(). What there is to say is in last_answer() then, or last_dry_run().
  void ask(bool dry_run, manager::DoneCallback done);
  /// Looks whether the keeper was asked (KeptDaemon::reload_wanted).
  void ask();

  /// What is kept of the catalog sources has changed.
  void on_sources();

  /// What the last reload came to, for people: some lines, or "".
  [[nodiscard]] std::string last_answer() const;
  /// The same of what would become of the last one that was only tried. A server that dies takes it along.
  [[nodiscard]] std::string last_dry_run() const;

 private:
  struct Request {
    bool dry_run = false;
    manager::DoneCallback done;
  };
  /// What the thread works with, which may outlive the reloader.
  struct Shared {
    mutable Mutex mutex;
    std::deque<Request> requests BERTH_GUARDED_BY(mutex);
    std::string answer BERTH_GUARDED_BY(mutex);
    std::string dry_run_answer BERTH_GUARDED_BY(mutex);
    bool stopped BERTH_GUARDED_BY(mutex) = false;
    bool sources_changed BERTH_GUARDED_BY(mutex) = false;
    bool is_calling BERTH_GUARDED_BY(mutex) = false;  ///< the manager
    ConditionVariable called;
    UniqueFd wake;  ///< an eventfd
  };
  class Work;

  /// False, and `request` stays as it is: it has been stopped.
  bool accept(Request& request);

  const Setup setup_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace berth::daemon
