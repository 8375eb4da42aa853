#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "src/lib/base/clock.h"

namespace berth::daemon {

/// Threads that may be in the middle of a system call that walks to two places, rename(2) and link(2): one that has done
/// its first walk before a mount is laid over a share, and does the second after, finds its two places in two mounts
/// (EXDEV). Nobody tells when a system call ends; it is found out by looking at the thread.
///
/// A thread has moved on from the call that it was in when it is gone, when it waits in a call of another kind, or when it
/// has been on a CPU for longer than any walk takes, the next of which asks us and has to wait.
///
/// Looking at somebody may last as long as he likes (other_threads.h), so a thread of its own does it: where that hangs, the answer
/// is false until it has gone on.
///
/// Threading: one thread.
class Walkers {
 public:
  /// Nobody.
  Walkers() = default;
  explicit Walkers(const std::vector<pid_t>& threads);
  /// Everybody on this host.
  static Walkers all();

  /// Waits until all have moved on since this was made. False at `deadline`; who has, has all the same.
  bool have_moved_on(TimePoint deadline);
  /// Of those who wait for us now: whether none can be in a call that walks to two places. It is not waited for any to move on;
  /// `deadline` is for who looks.
  bool walk_once(TimePoint deadline);

 private:
  struct Walker {
    pid_t thread;
    std::optional<std::chrono::nanoseconds> cpu_time = {};  ///< when it was first seen on a CPU
    std::optional<TimePoint> waits_since = {};              ///< in we may not know what
  };
  struct Round;
  using IsFine = bool (*)(Walker& walker, TimePoint now);
  static bool has_moved_on(Walker& walker, TimePoint now);
  static bool waits_elsewhere(Walker& walker, TimePoint now);
  static void look(Round& round, IsFine is_fine, TimePoint deadline);
  bool start_round(IsFine is_fine, TimePoint deadline);
  bool end_round(TimePoint deadline);

  std::vector<Walker> walkers_;
  std::shared_ptr<Round> round_;  ///< has them while it looks
};

}  // namespace berth::daemon
