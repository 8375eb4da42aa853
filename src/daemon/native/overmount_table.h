#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// What is mounted below a directory, in the mount namespace of this process. The kernel's table is read again after it
/// has changed, which costs microseconds for each mount of the host; each native share in use is looked up several
/// times an idle_timeout.
///
/// Threading: any thread may call anything.
class OvermountTable {
 public:
  enum class There : std::uint8_t { kGone, kCovered, kOnTop };

  /// Whether the mount `id` (mountinfo's) is mounted on `target`, a path below `directory`.
  /// Errors: those of reading the table.
  Result<There> look(std::uint64_t id, const std::string& target, const std::string& directory);

 private:
  struct Mount {
    std::string target;
    bool is_covered;
  };
  Result<> refresh(const std::string& directory) BERTH_REQUIRES(mutex_);

  Mutex mutex_;
  UniqueFd changes_ BERTH_GUARDED_BY(mutex_);  ///< mountinfo, which poll(2) tells of changes to
  std::string directory_ BERTH_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, Mount> mounts_ BERTH_GUARDED_BY(mutex_);  ///< by id
};

}  // namespace berth::daemon
