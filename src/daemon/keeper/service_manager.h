#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <optional>
#include <string>

#include "src/lib/base/clock.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// Sends the service manager the messages of sd_notify(3), without waiting for it: libsystemd blocks where the manager
/// does not read.
///
/// That the service is ready or stops is sent again until the manager takes it. Of several status texts only the last
/// one is sent, and so it is with alive(). Without NOTIFY_SOCKET nothing is sent.
///
/// Threading: one thread.
class ServiceManager {
 public:
  /// Reads NOTIFY_SOCKET: an absolute path, or a name in the abstract namespace that begins with '@'. And WATCHDOG_USEC
  /// (sd_watchdog_enabled(3)).
  ServiceManager();

  void ready() { say("READY=1", pending_); }
  void stopping() { say("STOPPING=1", pending_); }
  /// For its watchdog.
  void alive();
  /// The manager ends this process when it gets no alive() for so long; absent: it has no watchdog.
  [[nodiscard]] std::optional<std::chrono::microseconds> watchdog() const noexcept { return watchdog_; }
  /// `status`: one line.
  void status(const std::string& status);

  /// When to call tell() again; absent: all is sent.
  [[nodiscard]] std::optional<TimePoint> due() const noexcept { return due_; }
  void tell();

 private:
  void say(const std::string& assignment, std::string& to);

  sockaddr_un address_{};
  socklen_t length_ = 0;  ///< 0: there is no service manager
  std::string pending_;   ///< what must arrive
  std::string status_;
  std::string alive_;
  std::optional<std::chrono::microseconds> watchdog_;
  std::optional<TimePoint> due_;
};

}  // namespace berth::daemon
