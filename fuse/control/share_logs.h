#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "fuse/kept/kept_state.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// What the programs of shares have written while they ran, for `log`: of each share the end, and of the shares those
/// that have written last. In memory that outlives the server.
///
/// Threading: any thread may call anything.
class ShareLogs {
 public:
  /// `area`: null: there is no next server.
  explicit ShareLogs(LogArea* area);
  ~ShareLogs();
  ShareLogs(const ShareLogs&) = delete;
  ShareLogs& operator=(const ShareLogs&) = delete;

  /// Adds whole lines.
  void append(std::string_view share, std::string_view lines);
  /// Whole lines, the oldest first; empty where there are none.
  [[nodiscard]] std::string text_of(std::string_view share) const;

 private:
  [[nodiscard]] LogArea::Log* find(std::string_view share) const noexcept BERTH_REQUIRES(mutex_);
  LogArea::Log& find_or_take(std::string_view share) BERTH_REQUIRES(mutex_);

  mutable Mutex mutex_;
  const std::unique_ptr<LogArea> own_;  ///< where none was given
  LogArea& area_;                       ///< written under `mutex_`
};

}  // namespace berth::fuse
