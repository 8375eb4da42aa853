#include "manager/backends/stray_programs.h"

#include <unistd.h>

#include <cctype>
#include <chrono>
#include <csignal>
#include <string_view>
#include <vector>

#include "manager/backends/berth_backend.h"
#include "src/lib/sys/proc.h"

namespace berth::manager {
namespace {

namespace proc = sys::proc;

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{1};

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

}  // namespace

void end_stray_programs(const std::string& berth) noexcept {
  try {
    const std::vector<proc::HeldProcess> programs = proc::hold_all([&berth](pid_t number) {
      const Result<std::string> arguments = proc::read(proc::path_of(number, "cmdline"));
      return arguments && names(*arguments, berth);
    });
    for (const proc::HeldProcess& program : programs) {
      const pid_t group = ::getpgid(program.pid);
      if (group > 1 && group != ::getpgrp()) ::kill(-group, SIGKILL);
    }
    const TimePoint deadline = now() + kKillPatience;
    for (const proc::HeldProcess& program : programs) wait_readable(program.pidfd.get(), deadline);
    if (!programs.empty() && is_mounted(berth)) clear_berth(berth);
  } catch (const std::exception&) {
    // They run on: what they mount is found by the next attempt.
  }
}

}  // namespace berth::manager
