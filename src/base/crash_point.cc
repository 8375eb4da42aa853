#include "src/base/crash_point.h"

#ifdef BERTH_CRASH_POINTS

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace berth {
namespace {

std::atomic<const char*> armed{nullptr};

}  // namespace

void crash_point(const char* name) noexcept {
  const char* const meant = armed.load(std::memory_order_acquire);
  if (meant != nullptr && std::strcmp(meant, name) == 0) ::kill(::getpid(), SIGKILL);
}

void arm_crash_points() noexcept { armed.store(std::getenv("BERTH_CRASH_POINT"), std::memory_order_release); }

}  // namespace berth

#endif
