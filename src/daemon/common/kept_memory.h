#pragma once

#include "fuse/kept/kept_state.h"
#include "manager/engine/mount_record.h"
#include "src/daemon/common/kept_daemon.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/shared_memory.h"

namespace berth::daemon {

/// Everything that servers keep for their successors, in shared memory, laid out by the layers that use it. The
/// daemon's part is first, where every program finds it. Another layout has another size, mostly.
struct KeptMemory {
  alignas(4096) KeptDaemon daemon;
  alignas(4096) manager::KeptMounts mounts;
  alignas(4096) fuse::KeptState fuse;
};

/// Memory for it, all zero. Errors: ENOMEM, EMFILE.
Result<sys::SharedMemory> make_kept_memory();

/// Whether servers have successors. The benchmark compares with one that has none (BERTH_NO_SURVIVAL, test_switch.h).
bool survives() noexcept;

/// What a server works with: what all servers share, or memory of its own.
KeptMemory& choose_kept_memory(const sys::SharedMemory& shared) noexcept;

}  // namespace berth::daemon
