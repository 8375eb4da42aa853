#include "manager/backends/fuse_server.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/backends/berth_backend.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/process.h"

namespace berth::manager {
namespace {

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{5};
constexpr std::size_t kMaxProcFile = 64U << 10;

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
    sys::reap_orphans();  // it is a child of the first process of its pid namespace, which may be us
  }

 private:
  void signal(int number) const noexcept { ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0); }

  const pid_t pid_;
  const UniqueFd pidfd_;
};

template <typename Number>
std::optional<Number> number_in(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string link_target(const std::string& path) {
  std::array<char, 256> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return length < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

/// The entries of a directory of /proc whose names are numbers.
std::vector<std::string> numbers_in(const std::string& directory) {
  std::vector<std::string> names;
  DIR* const stream = ::opendir(directory.c_str());
  if (stream == nullptr) return names;
  while (const dirent* const entry = ::readdir(stream)) {
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') names.emplace_back(entry->d_name);
  }
  ::closedir(stream);
  return names;
}

/// The value of "KEY:\tVALUE" in a file of /proc.
std::string field_of(const std::string& path, std::string_view key) {
  const Result<std::string> text = sys::read_file(path, kMaxProcFile);
  if (!text) return "";
  for (std::string_view line : split(*text, '\n')) {
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    return std::string(line.substr(std::min(line.find_first_not_of(" \t"), line.size())));
  }
  return "";
}

/// Whether the process has the FUSE connection open.
bool serves(const std::string& process, std::string_view connection) {
  for (const std::string& fd : numbers_in(process + "/fd")) {
    if (link_target(process + "/fd/" + fd) != "/dev/fuse") continue;
    if (field_of(process + "/fdinfo/" + fd, "fuse_connection:") == connection) return true;
  }
  return false;
}

/// The process's number in its own pid namespace, which is ours too; /proc may be that of another one.
std::optional<pid_t> own_number(const std::string& process) {
  const std::string numbers = field_of(process + "/status", "NSpid:");
  return number_in<pid_t>(std::string_view(numbers).substr(numbers.rfind('\t') + 1));
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
  const std::string own_namespace = link_target("/proc/self/ns/pid");
  const std::string self = link_target("/proc/self");
  for (const std::string& name : numbers_in("/proc")) {
    const std::string process = "/proc/" + name;
    if (name == self || link_target(process + "/ns/pid") != own_namespace || !serves(process, connection)) continue;
    const std::optional<pid_t> number = number_in<pid_t>(name);
    const std::optional<pid_t> pid = own_number(process);
    if (!number || !pid) continue;
    UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
    // Asked again, now that the number cannot be given to another one.
    if (pidfd && serves(process, connection)) return std::make_unique<FuseServer>(*number, std::move(pidfd));
  }
  return nullptr;
}

}  // namespace berth::manager
