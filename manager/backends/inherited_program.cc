#include "manager/backends/inherited_program.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include "manager/backends/berth_backend.h"

namespace berth::manager {
namespace {

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{5};

}  // namespace

pid_t InheritedProgram::pid() const noexcept { return wait_readable(pidfd_.get(), now()) ? 0 : number_; }

void InheritedProgram::end(TimePoint deadline, int hurry_fd) noexcept {
  // With all that it has started (PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9), as sys::Process does.
  constexpr unsigned kProcessGroup = 4;
  const auto signal = [this](int number) {
    if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, kProcessGroup) == 0) return;
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
  };
  if (wait_readable(pidfd_.get(), now())) return;
  signal(SIGTERM);
  if (wait_readable(pidfd_.get(), deadline, hurry_fd)) return;
  signal(SIGKILL);
  wait_readable(pidfd_.get(), now() + kKillPatience);
}

}  // namespace berth::manager
