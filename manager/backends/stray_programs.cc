#include "manager/backends/stray_programs.h"

#include <unistd.h>

#include <cctype>
#include <chrono>
#include <csignal>
#include <string_view>
#include <vector>

#include "manager/backends/berth_backend.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/process.h"

namespace berth::manager {
namespace {

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{1};

/// A program that was started to mount.
struct LeftProgram {
  UniqueFd process;
  pid_t group = 0;
};

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
  namespace proc = sys::proc;
  std::vector<LeftProgram> found;
  for (const pid_t process : proc::numbers_in("/proc")) {
    if (!proc::is_in_own_pid_namespace(process)) continue;
    const Result<std::string> arguments = proc::read(proc::path_of(process, "cmdline"));
    if (!arguments || !names(*arguments, berth)) continue;
    const Result<std::string> status = proc::read(proc::path_of(process, "status"));
    if (!status) continue;
    const pid_t group = proc::last_number_of(proc::field_of(*status, "NSpgid"));
    Result<UniqueFd> pidfd = sys::open_process(proc::last_number_of(proc::field_of(*status, "NSpid")));
    if (pidfd && group > 1 && group != ::getpgrp()) found.push_back({*std::move(pidfd), group});
  }
  return found;
}

}  // namespace

void end_stray_programs(const std::string& berth) noexcept {
  try {
    const std::vector<LeftProgram> programs = find(berth);
    for (const LeftProgram& program : programs) ::kill(-program.group, SIGKILL);
    const TimePoint deadline = now() + kKillPatience;
    for (const LeftProgram& program : programs) wait_readable(program.process.get(), deadline);
    if (!programs.empty() && is_mounted(berth)) clear_berth(berth);
  } catch (const std::exception&) {
    // They run on: what they mount is found by the next attempt.
  }
}

}  // namespace berth::manager
