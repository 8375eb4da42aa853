#include "manager/backends/namespace_programs.h"

#include <poll.h>
#include <sys/stat.h>

#include <chrono>
#include <csignal>
#include <exception>
#include <set>
#include <string>
#include <vector>

#include "manager/backends/berth_backend.h"
#include "src/lib/sys/proc.h"

namespace berth::manager {
namespace {

namespace proc = sys::proc;

/// A program that SIGKILL does not end within this is stuck in the kernel, and not waited for any longer.
constexpr std::chrono::seconds kKillPatience{5};
/// Time between two searches for programs that are left: a program may start others while it is being ended.
constexpr std::chrono::milliseconds kLookAgain{20};
/// Of /proc, on a host where processes end all the time.
constexpr int kMostListings = 20;

/// What a process in it has in /proc/PID/ns ("mnt:[4026531841]"); "" of a process that has ended.
std::string link_of(const ProgramNamespace& of) {
  return std::string(of.kind) + ":[" + std::to_string(of.number) + "]";
}
std::string link_of(pid_t process, const ProgramNamespace& of) {
  return proc::link_target(proc::path_of(process, std::string("ns/") + of.kind));
}

/// The numbers in /proc of the processes in a namespace. A process may fork and end between the listing of /proc and
/// the look at it, and its child is not in that listing. So /proc is listed again where nothing is found and a process
/// has ended meanwhile.
std::vector<pid_t> processes_in(const ProgramNamespace& of) {
  const std::string link = link_of(of);
  std::vector<pid_t> found;
  std::set<pid_t> ended;
  for (int listings = 0; listings < kMostListings; ++listings) {
    bool has_one_ended = false;
    for (const pid_t process : proc::numbers_in("/proc")) {
      const std::string target = link_of(process, of);
      if (target == link) found.push_back(process);
      if (target.empty() && ended.insert(process).second) has_one_ended = true;
    }
    if (!found.empty() || !has_one_ended) break;
  }
  return found;
}

/// Sends `signal` to all processes in it but the calling one.
void signal_processes(const ProgramNamespace& of, int signal) {
  const std::string link = link_of(of);
  const pid_t self = proc::own_process();
  for (const pid_t number : processes_in(of)) {
    if (number == self) continue;
    const auto process = proc::hold(number, [&](pid_t one) { return link_of(one, of) == link; });
    if (process) process->signal(signal);
  }
}

/// Sends `signal` until no process is left; false at `deadline`, or when `hurry_fd` is readable.
bool end_until(const ProgramNamespace& of, int signal, TimePoint deadline, int hurry_fd) {
  for (bool repeat = true;; repeat = signal == SIGKILL) {
    if (repeat) signal_processes(of, signal);
    if (processes_in(of).empty()) return true;
    if (now() >= deadline) return false;
    pollfd hurry{hurry_fd, POLLIN, 0};  // poll(2) ignores -1
    if (::poll(&hurry, 1, static_cast<int>(kLookAgain.count())) > 0) return false;
  }
}

}  // namespace

std::uint64_t namespace_number(int descriptor) noexcept {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 ? status.st_ino : 0;
}

bool has_processes(const ProgramNamespace& of) { return !processes_in(of).empty(); }

void end_processes(const ProgramNamespace& of, TimePoint deadline, int hurry_fd) noexcept {
  try {
    if (!has_processes(of)) return;
    if (now() < deadline && end_until(of, SIGTERM, deadline, hurry_fd)) return;
    end_until(of, SIGKILL, now() + kKillPatience, -1);
  } catch (const std::exception&) {
    // Out of memory: they run until berth ends.
  }
}

}  // namespace berth::manager
