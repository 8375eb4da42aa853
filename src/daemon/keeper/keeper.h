#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "src/daemon/common/background.h"
#include "src/daemon/keeper/service_manager.h"
#include "src/daemon/server/server_setup.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/process.h"

namespace berth::daemon {

/// The descriptors that are open now, sorted.
std::vector<int> open_descriptors();

/// The part of `berth serve` that never touches a share: it starts the server, starts another one when that dies,
/// passes signals on, notifies the service manager, and bounds all of it. It never waits for the reader of its log or
/// the service manager.
///
/// If a server dies, its successor finds everything in the shared memory and the shared table of descriptors.
/// A successor that does not serve within `takeover_timeout`, or one crash more than `crash_limit` within
/// `crash_window`, ends the connection, so that callers get an error instead of waiting for ever.
///
/// Threading: one thread.
class Keeper {
 public:
  /// `own`: the descriptors that are the keeper's; empty: all that are open now.
  Keeper(ServerSetup& setup, Background& background, std::set<int> own = {});

  /// Starts the server. Errors: EAGAIN, ENOMEM.
  Result<> start_server();
  /// Until everything has ended; the exit code. `signals`: a signalfd of what block_signals() blocks.
  int run(int signals);

  /// Blocks the signals that the keeper handles and makes a descriptor that reports them (signalfd(2)).
  static Result<UniqueFd> block_signals();

 private:
  void on_message();
  [[nodiscard]] int milliseconds_to_work() const;
  void notify_status();
  void feed_watchdog();
  void on_silent_server();
  std::optional<int> enforce_deadlines();
  std::optional<int> on_server_ending();
  void on_server_begins_to_end();
  std::optional<int> collect_children();
  int serve(int signals);
  void on_reload_signal();
  void on_stop_signal(int signal);
  void stop();
  void on_server_stopping();
  void end_pid_namespace();
  void reap_stuck_server() const;
  std::optional<int> on_server_ended(int status);
  std::optional<int> on_crash(int status);
  void on_upgrade_wanted();
  void on_check_ended();
  void on_replacement_wanted();
  void end_server();
  void refuse_upgrade(const std::string& reason);
  void notify_refused() const;
  std::optional<int> hand_over();
  std::optional<int> replace_server();
  int end_connection(const std::string& reason);
  void take_namespace_off();
  void watch_mounts();
  void on_mounts_changed();
  void wait_for_server_end() const;
  [[nodiscard]] std::vector<int> inherited_descriptors() const;

  ServerSetup& setup_;
  Background& background_;
  std::set<int> own_;  ///< descriptors that are not the server's
  const std::string program_;
  std::optional<sys::Process> check_;  ///< of the binary that is to take the keeper's place
  std::optional<TimePoint> check_until_;
  std::optional<TimePoint> hand_over_at_;  ///< the server has been asked to answer, and is ended then at the latest
  bool handing_over_ = false;              ///< the server was ended for it
  bool replacing_ = false;                 ///< it is only another server that takes over
  std::optional<int> stop_signal_;         ///< came while `hand_over_at_` or `handing_over_` was set
  int signals_ = -1;
  pid_t server_ = 0;
  bool ready_ = false;         ///< a server has served
  UniqueFd mount_table_;       ///< readable (POLLPRI) when the host's mount table has changed
  bool server_stops_ = false;  ///< the server has confirmed that it stops
  bool stopping_ = false;
  bool forced_ = false;  ///< asked to stop at once
  ServiceManager manager_;
  std::optional<Message> counts_;  ///< what the service manager has not been sent yet
  TimePoint next_status_{};
  TimePoint next_watch_{};              ///< when the service manager's watchdog is looked after again
  std::optional<TimePoint> silent_at_;  ///< the server was asked whether it works, and is ended then without an answer
  std::optional<TimePoint> kill_at_;    ///< while stopping: when the server is killed
  std::optional<TimePoint> ending_until_;    ///< the server is ending, and is given until then
  std::optional<TimePoint> running_until_;   ///< so are threads of it that can run
  std::optional<TimePoint> takeover_until_;  ///< a server has been started and does not serve yet
  std::deque<TimePoint> crashes_;            ///< within the last `crash_window`
  TimePoint crashed_{};                      ///< the last time
  std::uint64_t oom_kills_ = 0;              ///< of the kernel's, when the server was started last
};

}  // namespace berth::daemon
