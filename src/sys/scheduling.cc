#include "src/sys/scheduling.h"

#include <sched.h>

#include <cerrno>
#include <thread>

#include "src/sys/thread.h"

namespace berth::sys {
namespace {

struct Usual {
  cpu_set_t processors{};
  bool known = false;

  Usual() noexcept {
    // Fails where there are more processors than fit: then nothing is changed either.
    known = ::sched_getscheduler(0) == SCHED_OTHER && ::sched_getaffinity(0, sizeof processors, &processors) == 0;
  }
};

const Usual& usual() noexcept {
  static const Usual noted;
  return noted;
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

bool may_run_beside() {
  static const bool may = usual().known && CPU_COUNT(&usual().processors) > 1 && can_come_back();
  return may;
}

Result<> run_beside(pid_t thread, unsigned processor) noexcept {
  if (processor >= CPU_SETSIZE || !CPU_ISSET(processor, &usual().processors)) return fail(EINVAL);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  TRY_VOID(set_policy(thread, SCHED_IDLE));
  Result<> placed = set_processors(thread, one);
  if (!placed) static_cast<void>(run_as_usual(thread));
  return placed;
}

Result<> run_as_usual(pid_t thread) noexcept {
  if (!usual().known) return {};
  TRY_VOID(set_policy(thread, SCHED_OTHER));
  return set_processors(thread, usual().processors);
}

}  // namespace berth::sys
