#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "manager/model/mount_users.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// What processes have in the real mounts over the directories of native shares, past berth, at one moment.
struct OvermountUsers {
  using In = manager::UsersOfMount;
  std::unordered_map<std::uint64_t, In> in;  ///< by overmount
  std::string unseen;                        ///< which processes could not be looked at, in words; "": none
  Duration cost{};                           ///< of a processor's time
};

/// The last look at OvermountUsers, for all readers. To look is to go through all processes of the host, and any user
/// may read: berth does it when it is read, one look at a time, for a twentieth of a processor's time at most. A reader
/// that comes between two looks gets the last one.
///
/// Threading: any thread may call anything. A look holds up its readers for as long as it takes, at most kMostWaiting
/// of them at once.
class OvermountLooks {
 public:
  static constexpr std::size_t kMostWaiting = 64;
  using Look = std::function<OvermountUsers(const std::vector<std::uint64_t>& overmounts)>;

  /// `look`: empty where there are no native shares.
  OvermountLooks(const Clock& clock, const Look& look) : clock_(clock), look_(look) {}

  /// `overmounts`: all of them; asked when it is looked.
  std::shared_ptr<const OvermountUsers> latest(const std::function<std::vector<std::uint64_t>()>& overmounts);

 private:
  std::shared_ptr<const OvermountUsers> wait() BERTH_REQUIRES(mutex_);
  void end(std::shared_ptr<const OvermountUsers> found);

  const Clock& clock_;
  const Look& look_;

  Mutex mutex_;
  ConditionVariable ended_;
  std::shared_ptr<const OvermountUsers> last_ BERTH_GUARDED_BY(mutex_) = std::make_shared<OvermountUsers>();
  bool looking_ BERTH_GUARDED_BY(mutex_) = false;
  std::size_t waiting_ BERTH_GUARDED_BY(mutex_) = 0;
  TimePoint next_ BERTH_GUARDED_BY(mutex_){};  ///< no look begins before
};

}  // namespace berth::fuse
