#include "manager/backends/fuse_server.h"

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/backends/berth_backend.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/proc.h"

namespace berth::manager {
namespace {

namespace proc = sys::proc;

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{5};

class FuseServer final : public HelperProcess {
 public:
  explicit FuseServer(proc::HeldProcess process) : process_(std::move(process)) {}
  [[nodiscard]] pid_t pid() const noexcept override { return process_.number; }
  [[nodiscard]] int pidfd() const noexcept override { return process_.pidfd.get(); }
  [[nodiscard]] int process() const noexcept override { return process_.pidfd.get(); }

  void end(TimePoint deadline, int hurry_fd) noexcept override {
    if (has_ended_at(now())) return;
    process_.signal(SIGTERM);
    if (has_ended_at(deadline, hurry_fd)) return;
    process_.signal(SIGKILL);
    has_ended_at(now() + kKillPatience);
  }

 private:
  bool has_ended_at(TimePoint deadline, int hurry_fd = -1) const noexcept {
    return wait_readable(process_.pidfd.get(), deadline, hurry_fd);
  }

  const proc::HeldProcess process_;
};

/// The FUSE connections that a process has open; "" of each that the kernel does not tell the number of.
std::vector<std::string> connections_of(pid_t process) {
  std::vector<std::string> connections;
  const std::string files = proc::path_of(process, "fd/");
  for (const pid_t fd : proc::numbers_in(files)) {
    if (proc::link_target(files + std::to_string(fd)) != "/dev/fuse") continue;
    const Result<std::string> info = proc::read(proc::path_of(process, "fdinfo/" + std::to_string(fd)));
    if (info) connections.emplace_back(proc::field_of(*info, "fuse_connection"));
  }
  return connections;
}

bool serves(pid_t process, const std::string& connection) {
  const std::vector<std::string> connections = connections_of(process);
  return std::find(connections.begin(), connections.end(), connection) != connections.end();
}

/// Whether a look at all processes may find anything. The calling process serves the namespace, and so has a
/// connection.
bool kernel_may_tell_numbers() {
  static const bool kMayTell = [] {
    const std::vector<std::string> own = connections_of(proc::own_process());
    return own.empty() || std::any_of(own.begin(), own.end(), [](const std::string& one) { return !one.empty(); });
  }();
  return kMayTell;
}

}  // namespace

bool is_served_type(std::string_view type) {
  return type == "fuse" || type == "fuseblk" || type.starts_with("fuse.") || type.starts_with("fuseblk.");
}

std::unique_ptr<HelperProcess> find_fuse_server(int root) {
  if (!kernel_may_tell_numbers()) return nullptr;
  const Result<struct statx> status = sys::stat_at(root, "", 0, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT);
  if (!status) return nullptr;
  // The connection is named by the device number, the file system type has the major number 0.
  const std::string connection = std::to_string(status->stx_dev_minor);
  const auto is_it = [&connection](pid_t number) { return serves(number, connection); };
  std::optional<proc::HeldProcess> server = proc::hold_newest(is_it);
  // What serves may have handed its files on to a child, such as the ssh of an sshfs.
  while (server) {
    std::optional<proc::HeldProcess> parent = proc::hold(proc::parent_of(server->number), is_it);
    if (!parent) return std::make_unique<FuseServer>(*std::move(server));
    server = std::move(parent);
  }
  return nullptr;
}

}  // namespace berth::manager
