#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "fuse/kept/kept_state.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// How far threads have come on their way into shares that are overmounted by their real mount for the first caller.
/// Such a thread is answered ESTALE once. The kernel then walks the whole path again by itself (LOOKUP_REVAL,
/// fs/namei.c) and asks about every name. So it also asks about the share's name, where the thread waits until the
/// share is overmounted.
///
///   unknown ── ESTALE ────▶ kOnItsWay ── the name is answered ──▶ kPassed
///      │                        │                                    │ it comes in without seeing the mount
///      └── served ──▶ kWalking  └── comes by another way ──▶ kInside ◀┘
///                                                              ▲│ a call that walks to two paths begins, or ends
///                                                              │▼
///                                                          kInsideTwice
///
/// A thread that is seen outside of such a call is unknown again (kWalking), or kInside (kInsideTwice).
///
/// If a thread got ESTALE twice in one system call, the program would see it. So this outlives the server.
///
/// Threading: any thread may call anything.
class StaleRetries {
 public:
  enum class Stage : std::uint8_t {
    kUnknown,   ///< or so long ago that it comes for another reason now
    kOnItsWay,  ///< it has been sent back, and asks about the share's name next
    /// The name was answered since, and leads past berth. When the share's overmount is removed, a thread that has come
    /// there is unknown again. One that has not got a processor for so long stays kPassed: it must not be sent back a
    /// second time in its call, even if the share was overmounted again meanwhile.
    kPassed,
    kWalking,      ///< served, in a call that is sent back at its end
    kInside,       ///< served until it pauses
    kInsideTwice,  ///< the same, perhaps in the midst of a call that walks to two paths (rename(2), link(2))
  };

  static constexpr unsigned kShareBits = 17;  ///< of a share's number

  /// `area`: outlives this; null: there will be no successor.
  explicit StaleRetries(StaleRetryArea* area = nullptr);

  /// Costs next to nothing while no thread is known. `share`: its number, KnownShare::index().
  [[nodiscard]] Stage stage_of(pid_t thread, std::uint32_t share, TimePoint now) const;
  /// False: too many are known, or the thread cannot be seen from here (0).
  bool set(pid_t thread, std::uint32_t share, Stage stage, TimePoint now);
  /// Notes that one that is kWalking or kInsideTwice has asked again. False: it is not.
  bool touch(pid_t thread, std::uint32_t share, TimePoint now);

  /// A thread, and when it asked for something last.
  struct Seen {
    pid_t thread;
    TimePoint last;
  };
  /// Threads that are kWalking or kInsideTwice in `share`: they may be between two walks.
  [[nodiscard]] std::vector<Seen> walking_in(std::uint32_t share, TimePoint now) const;
  /// Threads that are kPassed in `share`.
  [[nodiscard]] std::vector<Seen> passed_in(std::uint32_t share, TimePoint now) const;
  /// One of these was seen to be in no such call: what it asks for next belongs to another one. False: it has asked for something
  /// meanwhile.
  bool has_ended(const Seen& seen, std::uint32_t share);

 private:
  [[nodiscard]] StaleRetryRecord* find(pid_t thread, std::uint32_t share, TimePoint now) const BERTH_REQUIRES(mutex_);
  [[nodiscard]] StaleRetryRecord* make_room(TimePoint now) BERTH_REQUIRES(mutex_);
  [[nodiscard]] std::vector<Seen> all_in(std::uint32_t share, TimePoint now, bool (*are)(Stage)) const;
  [[nodiscard]] bool is_empty(TimePoint now) const noexcept;

  const std::unique_ptr<StaleRetryArea> own_;
  StaleRetryArea& area_;
  std::atomic<Duration::rep> last_set_{0};  ///< of TimePoint
  mutable Mutex mutex_;
};

}  // namespace berth::fuse
