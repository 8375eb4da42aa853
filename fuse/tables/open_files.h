#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>

#include "src/lib/base/mutex.h"
#include "src/lib/base/rate.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// How many descriptors the open files of callers may take, so that there is always one for a mount, an attachment and
/// the control tree, and so that one user cannot take those of all.
///
/// The kernel gives the lowest free number to what is opened (open(2)). So the number itself says how full the table
/// is, and nothing else needs to be counted: files may have the numbers below `end`.
///
/// Threading: any thread may call anything.
class OpenFiles {
 public:
  struct Limits {
    int end = INT_MAX;
    std::size_t per_user = SIZE_MAX;  ///< not of the superuser
  };
  explicit OpenFiles(Limits limits) noexcept : limits_(limits) {}

  /// Called when few numbers are left: gives up descriptors that are a convenience. On any thread that opens a file.
  /// Set it while there is one thread.
  void on_few(std::function<void()> give_up) { give_up_ = std::move(give_up); }

  /// Call it before a file is opened for `user`. A few threads that come at once may pass the limit by one each.
  /// Errors: ENFILE; the log explains how to raise the limit.
  Result<> admit(uid_t user);
  /// A file was opened for `user`, under this number.
  void add(uid_t user, int descriptor) noexcept;
  void remove(uid_t user) noexcept;

 private:
  bool has_room();
  void complain(const char* reason, std::size_t limit);

  const Limits limits_;
  std::function<void()> give_up_;
  std::atomic<bool> near_{false};  ///< the numbers near `end` are in use, or were at the last check
  Mutex mutex_;
  std::unordered_map<uid_t, std::size_t> users_ BERTH_GUARDED_BY(mutex_);
  /// Users that open files decide how often it complains.
  Rate complaints_ BERTH_GUARDED_BY(mutex_){1, std::chrono::minutes(1)};
};

}  // namespace berth::fuse
