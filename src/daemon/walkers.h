#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "src/base/clock.h"

namespace berth::daemon {

/// Threads that may be in the middle of a system call that walks to two places, rename(2) and link(2): one that has done
/// its first walk before a mount is laid over a share, and does the second after, finds its two places in two mounts
/// (EXDEV). Nobody tells when a system call ends; it is found out by looking at the thread.
///
/// A thread has moved on from the call that it was in when it is gone, when it waits in a call of another kind, or when it
/// has been on a CPU for longer than any walk takes, the next of which asks us and has to wait.
///
/// Threading: one thread.
class Walkers {
 public:
  /// Nobody.
  Walkers() = default;
  explicit Walkers(const std::vector<pid_t>& threads);
  /// Everybody on this host.
  static Walkers all();

  /// Waits until all have moved on since this was made. False at `deadline`; who has, has all the same. Looking at somebody may
  /// last as long as he likes (other_threads.h), so a thread of its own does it: where that hangs, false until it has gone on.
  bool have_moved_on(TimePoint deadline);

 private:
  struct Walker {
    pid_t thread;
    std::optional<std::chrono::nanoseconds> cpu_time = {};  ///< when it was first seen on a CPU
    std::optional<TimePoint> waits_since = {};              ///< in we may not know what
  };
  struct Round;
  static bool has_moved_on(Walker& walker, TimePoint now);
  static void look(Round& round, TimePoint deadline);
  bool start_round(TimePoint deadline);

  std::vector<Walker> walkers_;
  std::shared_ptr<Round> round_;  ///< has them while it looks
};

/// Whether a thread that waits in the kernel may be in a call that walks to two places.
bool may_walk_twice(pid_t thread);

}  // namespace berth::daemon
