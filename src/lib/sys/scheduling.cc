#include "src/lib/sys/scheduling.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "src/lib/sys/thread.h"

namespace berth::sys {
namespace {

/// Where all may run. Fails where there are more processors than fit: then nothing is changed either.
bool find_usual(cpu_set_t& processors) noexcept {
  return ::sched_getaffinity(::getpid(), sizeof processors, &processors) == 0;
}

Result<> set_policy(pid_t thread, int policy) noexcept {
  const sched_param none{};
  if (::sched_setscheduler(thread, policy, &none) != 0) return fail_errno();
  return {};
}

Result<> set_processors(pid_t thread, const cpu_set_t& processors) noexcept {
  if (::sched_setaffinity(thread, sizeof processors, &processors) != 0) return fail_errno();
  return {};
}

/// A thread that may not come back would be left behind the others for good, so one that ends right after tries it.
bool can_come_back() {
  bool came_back = false;
  Result<std::thread> trying = start_thread("berth-schedule", [&came_back] {
    came_back = set_policy(0, SCHED_IDLE).has_value() && set_policy(0, SCHED_OTHER).has_value();
  });
  if (!trying) return false;
  trying->join();
  return came_back;
}

}  // namespace

bool may_pin_idle() {
  static const bool may = [] {
    cpu_set_t usual;
    return ::sched_getscheduler(::getpid()) == SCHED_OTHER && find_usual(usual) && CPU_COUNT(&usual) > 1 &&
           can_come_back();
  }();
  return may;
}

std::size_t processor_numbers() noexcept {
  return static_cast<std::size_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_CONF)));
}

Result<> pin_idle(pid_t thread, unsigned cpu) noexcept {
  cpu_set_t usual;
  cpu_set_t one;
  CPU_ZERO(&one);
  if (cpu < CPU_SETSIZE) CPU_SET(cpu, &one);
  const bool is_ours = find_usual(usual) && cpu < CPU_SETSIZE && CPU_ISSET(cpu, &usual);
  Result<> placed = is_ours ? set_policy(thread, SCHED_IDLE) : fail(EINVAL);
  if (placed) placed = set_processors(thread, one);
  // It may have been pinned to another CPU before.
  if (!placed) static_cast<void>(unpin(thread));
  return placed;
}

Result<> unpin(pid_t thread) noexcept {
  if (!may_pin_idle()) return {};
  TRY_VOID(set_policy(thread, SCHED_OTHER));
  cpu_set_t usual;
  if (!find_usual(usual)) return fail_errno();
  return set_processors(thread, usual);
}

}  // namespace berth::sys
