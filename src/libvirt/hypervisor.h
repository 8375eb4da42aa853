#pragma once

#include <libvirt/libvirt.h>

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "src/lib/base/result.h"
#include "src/libvirt/guest.h"

namespace berth::libvirt {

/// Starts libvirt's own event loop (virEventRunDefaultImpl()), before the first connection. Errors are not printed from
/// now on.
Result<> prepare_event_loop();

/// All guests of a connection, running or not. One that goes meanwhile is left out. Errors: EIO, with the hypervisor's
/// words.
Result<Guests> list_guests(virConnectPtr connection);

/// The last error of libvirt on this thread.
Error libvirt_error(const std::string& what);

/// Follows the guests of a hypervisor: those that are there, and those that are defined, changed, started, stopped and
/// undefined. A connection that is lost is made again, later and later, and then all guests are read again. Until then
/// the guests are what was known last: a daemon that restarts has said nothing about them.
///
/// Threading: all in the thread that runs libvirt's event loop, callbacks as well.
class Hypervisor {
 public:
  struct Setup {
    std::string uri;                                        ///< "qemu:///system"
    std::function<void(const Guests&)> on_guests;           ///< they have changed, or are read for the first time
    std::function<void(const std::string&)> on_connection;  ///< "" when there is one, else why there is none
    std::function<virConnectPtr(const std::string&)> open;  ///< null when it fails, as virConnectOpenReadOnly()
    std::chrono::milliseconds first_retry{250};             ///< doubled each time, to kLastRetry
  };
  static constexpr std::chrono::seconds kLastRetry{30};

  explicit Hypervisor(Setup setup);
  ~Hypervisor();
  Hypervisor(const Hypervisor&) = delete;
  Hypervisor& operator=(const Hypervisor&) = delete;

  /// Connects as soon as the event loop runs. Errors: ENOMEM.
  Result<> start();

 private:
  void on_timer();
  void connect();
  void disconnect();
  void fail_connection(const std::string& reason);
  Result<> listen();
  Result<> read_changed();
  void later(std::chrono::milliseconds when) const;
  static void on_domain(virDomainPtr domain, void* self);
  static void on_closed(virConnectPtr, int reason, void* self);

  Setup setup_;
  virConnectPtr connection_ = nullptr;
  std::vector<int> callbacks_;  ///< of connection_, which they hold
  bool is_lost_ = false;
  std::chrono::milliseconds retry_;
  int timer_ = -1;
  Guests guests_;
  std::set<std::string> changed_;  ///< UUIDs of guests to read again
};

}  // namespace berth::libvirt
