#include "src/daemon/common/kept_memory.h"

#include <sys/mman.h>

#include "src/lib/base/test_switch.h"

namespace berth::daemon {
namespace {

KeptMemory& kept_memory_in(const sys::SharedMemory& memory) noexcept {
  return *reinterpret_cast<KeptMemory*>(memory.data());
}

}  // namespace

Result<sys::SharedMemory> make_kept_memory() { return sys::SharedMemory::make("berth", sizeof(KeptMemory)); }

bool survives() noexcept { return !is_switched_off("BERTH_NO_SURVIVAL"); }

KeptMemory& choose_kept_memory(const sys::SharedMemory& shared) noexcept {
  if (survives()) return kept_memory_in(shared);
  void* const own =
      ::mmap(nullptr, sizeof(KeptMemory), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return own != MAP_FAILED ? *static_cast<KeptMemory*>(own) : kept_memory_in(shared);
}

}  // namespace berth::daemon
