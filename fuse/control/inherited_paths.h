#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fuse/control/control_path.h"
#include "fuse/session/operations.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// The paths whose nodes the kernel may know from a dead server: all that exist when the first one is asked for. So a
/// node costs a binary search, whether there is such a path or not, and the tree is walked once in the life of a
/// server.
///
/// Threading: any thread may call anything.
class InheritedPaths {
 public:
  /// The path of a node; null: there is none.
  [[nodiscard]] std::shared_ptr<const ControlPath> find(NodeId node, const manager::Manager& manager);

 private:
  struct Inherited {
    NodeId node;
    std::uint32_t at;  ///< in the directory of shares where `kind` is of a share, else in `others`
    ControlPath::Kind kind;
  };
  struct Index {
    std::shared_ptr<const manager::Manager::Directory> shares;
    std::vector<ControlPath> others;  ///< directories above shares, instances, what is in them, and what is of no share
    std::vector<Inherited> paths;     ///< sorted by node

    void add(const ControlPath& path);
  };

  [[nodiscard]] static std::shared_ptr<const Index> make_index(const manager::Manager& manager);

  Mutex mutex_;
  std::shared_ptr<const Index> index_ BERTH_GUARDED_BY(mutex_);  ///< null: not asked yet
};

}  // namespace berth::fuse
