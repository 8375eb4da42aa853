#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fuse/control/control_path.h"
#include "fuse/control/control_tree.h"
#include "fuse/control/event_counts.h"
#include "fuse/control/overmount_looks.h"
#include "manager/engine/manager.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"
#include "src/lib/formats/metrics.h"
#include "src/lib/formats/view.h"

namespace berth::fuse {

/// The reader that a file is written for. Names of what is open are shown to the user that has it open, and to readers
/// that may see all.
struct Viewer {
  std::optional<uid_t> uid;
  bool sees_all = false;  ///< root, the daemon's user, the group
};

/// The name of a process (proc(5), comm); empty when it is gone.
[[nodiscard]] std::string command_of(pid_t pid);

/// The contents of the control tree's files at the moment of the call: snapshots of the manager, written by
/// src/lib/formats.
///
/// Threading: any thread may call anything.
class ControlFiles {
 public:
  /// About how large the text of `users` gets at most, while it is made.
  static constexpr std::size_t kMostOfUsers = std::size_t{2} << 20;

  ControlFiles(const manager::Manager& manager, const Clock& clock, const ControlSetup& setup);

  /// The text of a file that is written down when it is opened: all but `events` and the control files.
  [[nodiscard]] std::string text_of(const ControlPath& path, const manager::Share* share, const Viewer& viewer) const;
  /// When the tree was made.
  [[nodiscard]] WallTime started() const noexcept { return started_; }

  /// Counts an event for `metrics`.
  void count(const manager::Event& event) { counts_.count(event); }

  /// Keeps the reason why a control write was refused, for `error`, until the next control write or failed attempt.
  void refuse(const manager::Share& share, const Error& why);
  /// Forgets it.
  void accept(const manager::Share& share);

 private:
  [[nodiscard]] formats::ShareView share_view(const manager::Share& share) const;
  [[nodiscard]] formats::NamespaceView namespace_view() const;
  [[nodiscard]] formats::MetricsView metrics_view() const;
  [[nodiscard]] std::optional<formats::FailureView> last_error(const manager::Share& share) const;
  [[nodiscard]] formats::UsersView users(const manager::Share& share, const Viewer& viewer) const;
  void add_native_users(formats::UsersView& view, const manager::Share& share, const Viewer& viewer) const;
  /// What one answer shows of native shares; null until it is needed.
  using NativeLook = std::shared_ptr<const OvermountUsers>;
  [[nodiscard]] NativeLook native_users() const;
  /// The processes in the share's overmount.
  [[nodiscard]] std::uint64_t native_users_of(const manager::ShareStatus& status, NativeLook& look) const;
  /// What the manager knows of it, and its users.
  [[nodiscard]] formats::ShareView known_of(const manager::Share& share) const;
  [[nodiscard]] formats::ShareSummary summary_of(const manager::Share& share, NativeLook& look) const;

  // Constant.
  const manager::Manager& manager_;
  const Clock& clock_;
  const ControlSetup& setup_;
  const WallTime started_;
  EventCounts counts_;
  mutable OvermountLooks overmount_looks_;

  mutable Mutex mutex_;
  std::map<std::string, formats::FailureView, std::less<>> refused_ BERTH_GUARDED_BY(mutex_);  ///< by the share's name
};

/// A step in the life of a share as a whole line of `events`.
[[nodiscard]] std::string event_line(const manager::Event& event);

}  // namespace berth::fuse
