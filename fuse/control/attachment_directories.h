#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "manager/model/share.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// What `attachments` shows of a share: the attachments that the manager has, and the instances that were made with
/// mkdir(2) and have none yet.
///
/// Threading: any thread may call anything.
class AttachmentDirectories {
 public:
  /// Most instances without an attachment, of one share.
  static constexpr std::size_t kMaxInstances = 16384;

  [[nodiscard]] bool has_instance(const manager::Share& share, const std::string& instance) const;
  /// Sorted.
  [[nodiscard]] std::vector<std::string> instances(const manager::Share& share) const;
  /// Sorted.
  [[nodiscard]] std::vector<std::string> volumes(const manager::Share& share, std::string_view instance) const;

  /// Errors: EEXIST, ENOSPC at kMaxInstances.
  Result<> make_instance(const manager::Share& share, const std::string& instance);
  /// Errors: ENOENT, ENOTEMPTY.
  Result<> remove_instance(const manager::Share& share, const std::string& instance);

 private:
  mutable Mutex mutex_;
  /// By the share's name: instances made here, and not removed since.
  std::map<std::string, std::set<std::string>, std::less<>> made_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
