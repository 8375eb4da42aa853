#pragma once

#include "fuse/kept/estate.h"
#include "manager/engine/mount_record.h"
#include "src/daemon/common/records.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/shared_memory.h"

namespace berth::daemon {

/// Everything that servers keep for their successors, in shared memory, laid out by the layers that use it. The daemon's part
/// is first, where everybody finds it. Another layout has another size, mostly.
struct Estate {
  alignas(4096) DaemonRecord daemon;
  alignas(4096) manager::MountArea mounts;
  alignas(4096) fuse::Estate fuse;
};

/// Memory for it, all zero. Errors: ENOMEM, EMFILE.
Result<sys::SharedMemory> make_estate();

/// Whether servers have successors. The benchmark compares with one that has none (BERTH_NO_SURVIVAL, test_switch.h).
bool survives() noexcept;

/// What a server works with: what all servers share, or memory of its own.
Estate& choose_estate(const sys::SharedMemory& shared) noexcept;

}  // namespace berth::daemon
