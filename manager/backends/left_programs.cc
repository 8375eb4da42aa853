#include "manager/backends/left_programs.h"

#include <unistd.h>

#include <array>
#include <cctype>
#include <charconv>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <string_view>
#include <vector>

#include "manager/backends/berth_backend.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/process.h"

namespace berth::manager {
namespace {

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{1};
constexpr std::size_t kMaxProcFile = 256U << 10;

/// One that was told to mount.
struct LeftProgram {
  UniqueFd process;
  pid_t group = 0;
};

std::string namespace_of(const std::string& process) {
  std::error_code error;
  return std::filesystem::read_symlink(process + "/ns/pid", error).string();
}

/// The last number of such a line of /proc/PID/status, which is the one in our pid namespace; 0: there is none.
pid_t own_number(std::string_view status, std::string_view key) {
  for (const std::string_view line : split(status, '\n')) {
    if (!line.starts_with(key)) continue;
    const std::string_view text = line.substr(line.rfind('\t') + 1);
    pid_t number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
  }
  return 0;
}

/// Whether the arguments name just this path, be it within a longer one.
bool names(std::string_view arguments, std::string_view berth) {
  for (std::size_t at = arguments.find(berth); at != std::string_view::npos; at = arguments.find(berth, at + 1)) {
    const char next = at + berth.size() < arguments.size() ? arguments[at + berth.size()] : '\0';
    if (next == '\0' || next == ',' || next == ';' || std::isspace(static_cast<unsigned char>(next)) != 0 ||
        next == '"' || next == '\'') {
      return true;
    }
  }
  return false;
}

std::vector<LeftProgram> find(const std::string& berth) {
  std::vector<LeftProgram> found;
  const std::string own_namespace = namespace_of("/proc/self");
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string process = entry.path();
    if (std::isdigit(static_cast<unsigned char>(process[sizeof "/proc/" - 1])) == 0) continue;
    if (namespace_of(process) != own_namespace) continue;
    const Result<std::string> arguments = sys::read_file(process + "/cmdline", kMaxProcFile);
    if (!arguments || !names(*arguments, berth)) continue;
    const Result<std::string> status = sys::read_file(process + "/status", kMaxProcFile);
    if (!status) continue;
    const pid_t group = own_number(*status, "NSpgid:");
    Result<UniqueFd> pidfd = sys::open_process(own_number(*status, "NSpid:"));
    if (pidfd && group > 1 && group != ::getpgrp()) found.push_back({*std::move(pidfd), group});
  }
  return found;
}

}  // namespace

void end_left_programs(const std::string& berth) noexcept {
  try {
    const std::vector<LeftProgram> programs = find(berth);
    for (const LeftProgram& program : programs) ::kill(-program.group, SIGKILL);
    const TimePoint deadline = now() + kKillPatience;
    for (const LeftProgram& program : programs) wait_readable(program.process.get(), deadline);
    if (!programs.empty() && is_mounted(berth)) clear_berth(berth);
  } catch (const std::exception&) {
    // They go on: what they mount is found by the next attempt.
  }
}

}  // namespace berth::manager
