#pragma once

#include <sys/types.h>

#include <utility>

#include "src/daemon/native/native_channel.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// The process that overmounts shares with their real mounts, and removes the overmounts, in the host's mount
/// namespace.
///
/// - It is not the keeper: to find a share's directory is to ask the server, and the keeper must not wait for the
///   server that it may have to restart.
/// - It is not a thread of the server: a thread that waits for a look-up which only the server itself can answer could
///   not even be killed.
/// - It keeps no state that is missed: the kernel reports which shares are overmounted (NativeRequest::kList), and a
///   share that it does not watch counts as used (UseWatch). So it may die and be started again at any time.
///
/// It lives in the servers' pid namespace, where it ends when keeper and server have.
///
/// Threading: one thread; in its own process as many as requests that hang, and a few.
class NativeAgent {
 public:
  /// Starts it. Call it with one thread, after start_first_process() and before the process opens much.
  static Result<NativeAgent> start();

  /// An agent that an earlier keeper has started.
  static NativeAgent take_over(NativeChannel servers_end, NativeChannel agents_end, pid_t pid) noexcept;
  [[nodiscard]] const NativeChannel& agents_end() const noexcept { return agents_end_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  /// For the server.
  [[nodiscard]] const NativeChannel& channel() const noexcept { return servers_end_; }
  /// For the server, when the keeper is gone: no process starts the agent again. From here on what is asked of an agent
  /// that is dead, or dies, fails at once.
  void expect_no_other() noexcept { const NativeChannel closed = std::move(agents_end_); }

  /// A child of the process may have ended or stopped. An agent that has ended is started again, unless it dies young
  /// again and again. One that was stopped (SIGSTOP) is continued: shares would wait for it.
  void look_after();

 private:
  NativeAgent(NativeChannel servers_end, NativeChannel agents_end) noexcept;
  Result<> fork_agent();
  void on_ended();

  NativeChannel servers_end_;
  NativeChannel agents_end_;
  pid_t pid_ = -1;
  TimePoint started_{};
  int short_lives_ = 0;  ///< in a row
};

}  // namespace berth::daemon
