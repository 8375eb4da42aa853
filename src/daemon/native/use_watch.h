#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// Whether programs open something in overmounts (fanotify(7), FAN_MARK_MOUNT). The kernel counts each walk as a use of
/// a mount, those of statfs(2) and stat(2) by which monitors look at it as well (MNT_EXPIRE, umount2(2)).
///
/// A mount is watched until the first program opens something in it, so programs pay for one event an idle_timeout.
///
/// Threading: any thread may call anything; a thread of its own reads the events, and lives as long as the process.
class UseWatch {
 public:
  UseWatch();
  UseWatch(const UseWatch&) = delete;
  UseWatch& operator=(const UseWatch&) = delete;

  /// False: this kernel does not tell, or not this process (it takes CAP_SYS_ADMIN in the first user namespace).
  [[nodiscard]] bool is_supported() const noexcept { return is_supported_; }
  /// Watches the overmount of a share from now on. `mount`: its id, mount_id_at(); `root`: a descriptor of its root.
  void arm(const std::string& share, std::uint64_t mount, int root);
  /// Whether it is watched, and no program has opened anything in it since. False where that is not known yet.
  [[nodiscard]] bool is_unused(const std::string& share, std::uint64_t mount) const;
  void forget(const std::string& share);

 private:
  struct Watched {
    std::uint64_t mount = 0;
    bool is_used = false;
  };

  [[noreturn]] void read_events() noexcept;
  void read_one() noexcept;
  void note_use(std::uint64_t mount) noexcept;
  void note_use_of_all() noexcept;

  const UniqueFd group_;
  std::atomic<bool> is_supported_{false};
  std::atomic<bool> reads_{false};  ///< events that have been taken may not be noted yet

  mutable Mutex mutex_;
  std::unordered_map<std::string, Watched> watched_ BERTH_GUARDED_BY(mutex_);  ///< by share
};

}  // namespace berth::daemon
