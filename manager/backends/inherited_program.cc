#include "manager/backends/inherited_program.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "manager/backends/berth_backend.h"

namespace berth::manager {
namespace {

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{5};

}  // namespace

std::unique_ptr<InheritedProgram> InheritedProgram::make(pid_t number, UniqueFd pidfd, UniqueFd output,
                                                         std::function<void(std::string_view)> said) {
  return std::unique_ptr<InheritedProgram>(
      new InheritedProgram(number, std::move(pidfd), OutputReader::make(std::move(output), std::move(said))));
}

pid_t InheritedProgram::pid() const noexcept { return wait_readable(pidfd_.get(), now()) ? 0 : number_; }

void InheritedProgram::end(TimePoint deadline) noexcept {
  // With all that it has started (PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9), as sys::Process does.
  constexpr unsigned kProcessGroup = 4;
  const auto signal = [this](int number) {
    if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, kProcessGroup) == 0) return;
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
  };
  if (wait_readable(pidfd_.get(), now())) return;
  signal(SIGTERM);
  if (wait_readable(pidfd_.get(), deadline)) return;
  signal(SIGKILL);
  wait_readable(pidfd_.get(), now() + kKillPatience);
}

}  // namespace berth::manager
