#include "manager/backends/inherited_program.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <utility>

#include "manager/backends/berth_backend.h"
#include "src/lib/sys/thread.h"

namespace berth::manager {
namespace {

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{5};

}  // namespace

std::unique_ptr<InheritedProgram> InheritedProgram::make(pid_t number, UniqueFd pidfd, UniqueFd output,
                                                         std::function<void(std::string_view)> said) {
  std::unique_ptr<InheritedProgram> program(
      new InheritedProgram(number, std::move(pidfd), std::move(output), std::move(said)));
  if (!program->output_) return program;
  program->stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  Result<std::thread> reader = sys::start_thread("berth-output", [raw = program.get()] { raw->read_output(); });
  if (reader) program->reader_ = std::move(*reader);  // without, the program may stand still when it writes a lot
  return program;
}

InheritedProgram::~InheritedProgram() {
  if (reader_.joinable()) {
    ::eventfd_write(stop_.get(), 1);
    reader_.join();
  }
}

pid_t InheritedProgram::pid() const noexcept { return wait_readable(pidfd_.get(), now()) ? 0 : number_; }

void InheritedProgram::read_output() noexcept {
  std::array<char, 4096> bytes{};
  for (;;) {
    std::array<pollfd, 2> ready{{{output_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), -1) < 0) continue;
    if (ready[1].revents != 0) return;
    const ssize_t count = ::read(output_.get(), bytes.data(), bytes.size());
    if (count == 0) return;
    if (count > 0 && said_) said_({bytes.data(), static_cast<std::size_t>(count)});
  }
}

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
