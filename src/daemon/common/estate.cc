#include "src/daemon/common/estate.h"

#include <sys/mman.h>

#include "src/lib/base/test_switch.h"

namespace berth::daemon {
namespace {

Estate& estate_of(const sys::SharedMemory& memory) noexcept { return *reinterpret_cast<Estate*>(memory.data()); }

}  // namespace

Result<sys::SharedMemory> make_estate() { return sys::SharedMemory::make("berth", sizeof(Estate)); }

bool survives() noexcept { return !is_switched_off("BERTH_NO_SURVIVAL"); }

Estate& choose_estate(const sys::SharedMemory& shared) noexcept {
  if (survives()) return estate_of(shared);
  void* const own =
      ::mmap(nullptr, sizeof(Estate), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return own != MAP_FAILED ? *static_cast<Estate*>(own) : estate_of(shared);
}

}  // namespace berth::daemon
