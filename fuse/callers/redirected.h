#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>

#include "fuse/kept/estate.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// Threads that were told to walk to a file again from where its path begins (ESTALE: the kernel does that by itself, once,
/// and asks for every name; path_openat(), fs/namei.c), because their share is about to be handed over to native access. At the
/// share's name they wait for that.
///
/// One that asks about the file again is served: its path begins below that name, or it does not see the real mount. Told the
/// same twice, its program would hear of it; so this outlives the server.
///
/// Threading: any thread may call anything.
class Redirected {
 public:
  /// `area`: outlives this; null: nobody succeeds us.
  explicit Redirected(RedirectedArea* area = nullptr);

  /// Whether `thread` may be told to. False: it has just been, or too many have, or it cannot be seen from here (0).
  [[nodiscard]] bool add(pid_t thread, TimePoint now);
  /// Whether `thread` has been told to and has not come to a share's name yet. Costs next to nothing while nobody has.
  [[nodiscard]] bool is_on_its_way(pid_t thread, TimePoint now) const;
  /// It has; to be said again when it goes on.
  void arrived(pid_t thread, TimePoint now);

 private:
  using Slot = std::atomic<std::uint64_t>;
  /// Null: it has not been told, or that was so long ago that it comes for another reason now.
  [[nodiscard]] Slot* find(pid_t thread, TimePoint now) const BERTH_REQUIRES(mutex_);

  const std::unique_ptr<RedirectedArea> own_;
  RedirectedArea& area_;
  std::atomic<Duration::rep> last_told_{0};  ///< of TimePoint; about
  mutable Mutex mutex_;
};

}  // namespace berth::fuse
