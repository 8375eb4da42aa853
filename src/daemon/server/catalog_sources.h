#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "src/config/config.h"
#include "src/daemon/server/source_runner.h"
#include "src/lib/base/mutex.h"
#include "src/lib/formats/view.h"

namespace berth::daemon {

/// Runs the programs of the catalog sources, and keeps on disk which shares they name. The configuration has its shares
/// from there, so what a source says takes effect by a reload, and a start serves them while a store is away.
///
/// Programs are started in the host's mount namespace and the servers' pid namespace, and again when they end, after a
/// wait that grows. They end with the server; one that a dead server has left is killed before its successor starts
/// another.
///
/// Threading: any thread may call anything. A source has a thread, which may block on the disk.
class CatalogSources {
 public:
  struct Setup {
    std::string directory;  ///< where the shares are kept; "": nowhere, and no source runs
    std::string namespace_directory;
    int group = -1;  ///< the control group of the programs; -1: the server's own
    /// The shares on disk have changed. Any thread.
    std::function<void()> changed;
    /// Whether shares of that origin are in force. The thread that calls run().
    std::function<bool(const std::string& origin)> has_shares;
  };

  explicit CatalogSources(Setup setup) : setup_(std::move(setup)) {}
  ~CatalogSources() { stop(); }
  CatalogSources(const CatalogSources&) = delete;
  CatalogSources& operator=(const CatalogSources&) = delete;

  /// Runs these and no others. One that is the same runs on, and one that could not be run is tried again. What was
  /// kept of others is removed: a section that comes back must not bring old shares along. The first call does not wait
  /// for that. May wait some seconds for the end of a program. `host`: the host's mount namespace, which outlives this.
  /// One thread at a time.
  void run(const std::vector<config::CatalogSource>& wanted, int host);
  /// What the last configuration in force made of their shares.
  void note(std::vector<config::SourceShares> in_force);
  /// Ends the programs. A program or a disk that does not let go is not waited for longer than some seconds.
  void stop() noexcept;

  [[nodiscard]] std::vector<formats::SourceView> views() const;

 private:
  Result<> start(const config::CatalogSource& source, int host);
  [[nodiscard]] std::vector<std::shared_ptr<SourceRunner>> runners() const;
  void forget_others(const std::vector<config::CatalogSource>& wanted, int host);

  const Setup setup_;
  /// The sources of which files may be there. Absent: run() has not been called yet.
  std::optional<std::set<std::string>> kept_;
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<SourceRunner>> runners_ BERTH_GUARDED_BY(mutex_);
  std::vector<config::SourceShares> in_force_ BERTH_GUARDED_BY(mutex_);
  bool stopped_ BERTH_GUARDED_BY(mutex_) = false;
};

}  // namespace berth::daemon
