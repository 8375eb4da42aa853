#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <unordered_map>

#include "fuse/session/operations.h"
#include "src/lib/base/mutex.h"
#include "src/lib/sys/file_handle.h"

namespace berth::fuse {

/// The file handles (name_to_handle_at(2)) of the directories behind nodes, of shares that programs also change past
/// berth (native access). The name in a node may be gone when a program that is still inside comes back.
///
/// Threading: any thread may call anything.
class DirectoryHandles {
 public:
  /// `is_known`: whether there is such a node still; asked now and then, without a lock.
  void note(NodeId node, sys::FileHandle handle, const std::function<bool(NodeId)>& is_known);
  [[nodiscard]] std::optional<sys::FileHandle> find(NodeId node) const;

 private:
  void forget_unknown(const std::function<bool(NodeId)>& is_known);

  static constexpr std::size_t kFirstLook = 1024;

  mutable Mutex mutex_;
  std::unordered_map<NodeId, sys::FileHandle> handles_ BERTH_GUARDED_BY(mutex_);
  std::size_t look_at_ BERTH_GUARDED_BY(mutex_) = kFirstLook;  ///< how many, before those of dead nodes are looked for
};

}  // namespace berth::fuse
