#include "src/daemon/common/kept_memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "src/lib/base/test_switch.h"

namespace berth::daemon {
namespace {

// Two binaries read and write it: another layout is another KeptDaemon::kVersion.
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free &&
              std::atomic<std::uint32_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free &&
              std::atomic<bool>::is_always_lock_free);
static_assert(sizeof(pid_t) == sizeof(int));
static_assert(sizeof(KeeperDescriptors) == 52 && offsetof(KeeperDescriptors, agent) == 40);
static_assert(sizeof(KeptDaemon) == 12480 && offsetof(KeptDaemon, version) == 0 && offsetof(KeptDaemon, life) == 12 &&
              offsetof(KeptDaemon, namespace_mount) == 32 && offsetof(KeptDaemon, host) == 48 &&
              offsetof(KeptDaemon, upgrade_request) == 64 && offsetof(KeptDaemon, keeper_descriptors) == 8328 &&
              offsetof(KeptDaemon, directory) == 8380);

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
