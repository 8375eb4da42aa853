#include "manager/backends/fuse_server.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/backends/berth_backend.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/process.h"

namespace berth::manager {
namespace {

namespace proc = sys::proc;

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{5};

class FuseServer final : public HelperProcess {
 public:
  FuseServer(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  [[nodiscard]] pid_t pid() const noexcept override { return pid_; }
  [[nodiscard]] int pidfd() const noexcept override { return pidfd_.get(); }
  [[nodiscard]] int process() const noexcept override { return pidfd_.get(); }

  void end(TimePoint deadline) noexcept override {
    if (!wait_readable(pidfd_.get(), now())) {
      signal(SIGTERM);
      if (!wait_readable(pidfd_.get(), deadline)) {
        signal(SIGKILL);
        wait_readable(pidfd_.get(), now() + kKillPatience);
      }
    }
  }

 private:
  void signal(int number) const noexcept { ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0); }

  const pid_t pid_;
  const UniqueFd pidfd_;
};

/// Whether the process has the FUSE connection open.
bool serves(pid_t process, std::string_view connection) {
  const std::string files = proc::path_of(process, "fd/");
  for (const pid_t fd : proc::numbers_in(files)) {
    if (proc::link_target(files + std::to_string(fd)) != "/dev/fuse") continue;
    const Result<std::string> info = proc::read(proc::path_of(process, "fdinfo/" + std::to_string(fd)));
    if (info && proc::field_of(*info, "fuse_connection") == connection) return true;
  }
  return false;
}

}  // namespace

bool is_served_type(std::string_view type) {
  return type == "fuse" || type == "fuseblk" || type.starts_with("fuse.") || type.starts_with("fuseblk.");
}

std::unique_ptr<HelperProcess> find_fuse_server(int root) {
  const Result<struct statx> status = sys::stat_at(root, "", 0, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT);
  if (!status) return nullptr;
  // The connection is named by the device number, the file system type has the major number 0.
  const std::string connection = std::to_string(status->stx_dev_minor);
  const pid_t self = proc::own_process();
  for (const pid_t process : proc::numbers_in("/proc")) {
    if (process == self || !proc::is_in_own_pid_namespace(process) || !serves(process, connection)) continue;
    const Result<std::string> text = proc::read(proc::path_of(process, "status"));
    const pid_t pid = text ? proc::last_number_of(proc::field_of(*text, "NSpid")) : 0;
    if (pid == 0) continue;
    UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    // Asked again, now that the number cannot be given to another one.
    if (pidfd && serves(process, connection)) return std::make_unique<FuseServer>(process, std::move(pidfd));
  }
  return nullptr;
}

}  // namespace berth::manager
