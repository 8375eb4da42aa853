#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "src/config/catalog_source.h"
#include "src/config/source_listing.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/formats/view.h"
#include "src/lib/sys/process.h"

namespace berth::daemon {

/// One catalog source: its program, and what that says.
///
/// Threading: run() has a thread of its own, which may block; the rest any thread.
class SourceRunner {
 public:
  struct Setup {
    config::CatalogSource source;
    std::string file;  ///< where its shares are kept
    std::string namespace_directory;
    std::function<void()> changed;  ///< the shares in `file` are others now
    int host = -1;                  ///< the host's mount namespace
    int group = -1;                 ///< the control group of the program; -1: the server's own
    bool has_shares = false;        ///< some of it are in force
  };

  /// Errors: EMFILE.
  static Result<std::shared_ptr<SourceRunner>> make(Setup setup);

  /// Until it is told to stop.
  void run();
  /// In the place of run(): it cannot be.
  void give_up(const Error& why);
  [[nodiscard]] bool has_ended() const;
  void stop() noexcept;
  /// False: run() has not ended by then.
  bool wait_for_end(TimePoint deadline) noexcept;

  [[nodiscard]] const config::CatalogSource& source() const noexcept { return setup_.source; }
  [[nodiscard]] formats::SourceView view() const;

 private:
  explicit SourceRunner(Setup setup, UniqueFd wake) : setup_(std::move(setup)), wake_(std::move(wake)) {}

  /// The thread's own.
  struct Work;
  void set_ended() BERTH_REQUIRES(mutex_);

  const Setup setup_;
  const UniqueFd wake_;  ///< readable: stop
  mutable Mutex mutex_;
  ConditionVariable ended_changed_;
  std::atomic<bool> ended_{false};  ///< stored under mutex_, for ended_changed_
  formats::SourceView view_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::daemon
