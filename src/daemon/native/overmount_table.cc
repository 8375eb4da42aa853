#include "src/daemon/native/overmount_table.h"

#include <fcntl.h>
#include <poll.h>

#include <vector>

#include "src/lib/sys/file.h"
#include "src/lib/sys/mount_table.h"

namespace berth::daemon {

Result<OvermountTable::There> OvermountTable::look(std::uint64_t id, const std::string& target,
                                                   const std::string& directory) {
  MutexLock lock(mutex_);
  TRY_VOID(refresh(directory));
  const auto found = mounts_.find(id);
  if (found == mounts_.end() || found->second.target != target) return There::kGone;
  return found->second.is_covered ? There::kCovered : There::kOnTop;
}

/// Asks for changes before it reads, so that one that comes meanwhile is found the next time.
Result<> OvermountTable::refresh(const std::string& directory) {
  if (!changes_) changes_ = TRY(sys::open_at(AT_FDCWD, "/proc/thread-self/mountinfo", O_RDONLY));
  pollfd changed{changes_.get(), POLLPRI, 0};
  const bool is_new = ::poll(&changed, 1, 0) != 0 || directory_ != directory;
  if (!is_new) return {};
  directory_.clear();
  mounts_.clear();
  const std::vector<sys::MountEntry> table = TRY(sys::read_mount_table());
  std::unordered_map<std::string, std::uint64_t> on_top;  // by target; a later one covers an earlier one
  for (const sys::MountEntry& entry : table) {
    if (!entry.target.starts_with(directory + "/")) continue;
    const auto [below, is_first] = on_top.try_emplace(entry.target, entry.id);
    if (!is_first) {
      mounts_.at(below->second).is_covered = true;
      below->second = entry.id;
    }
    mounts_.emplace(entry.id, Mount{entry.target, false});
  }
  directory_ = directory;
  return {};
}

}  // namespace berth::daemon
