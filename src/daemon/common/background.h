#pragma once

#include <optional>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// Serving behind the caller's back: the caller's process returns when the namespace is ready, a child serves on.
class Background {
 public:
  /// In the foreground: there is no caller to notify.
  Background() noexcept = default;

  /// Splits the process. In the caller's it blocks until the child is ready or has ended and gives the exit code: 0
  /// when ready. In the child it gives nothing. Call it with one thread.
  Result<std::optional<int>> daemonize();

  /// The namespace is ready: lets the caller's process return, takes a session of its own, and lets go of the terminal.
  ///
  /// Not sooner: on an automount point only processes of the automounter's process group may walk to the directory
  /// while it is being mounted (linux/fs/autofs/root.c, autofs_d_manage()); all others wait for the mount.
  void ready() noexcept;

 private:
  UniqueFd caller_;
};

/// Makes standard input, output and error /dev/null, so that a program that reads them does not wait for a daemon's
/// end. Standard error stays where it is if it is the journal.
void let_go_of_terminal() noexcept;

}  // namespace berth::daemon
