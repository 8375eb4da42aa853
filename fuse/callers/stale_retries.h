#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
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
/// A thread that has asked for nothing for two seconds is unknown again, unless it may still be in the call in which it
/// was answered ESTALE (call_of()): it may have got no processor since. If a thread got ESTALE twice in one system
/// call, the program would see it. So this outlives the server.
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

  static constexpr unsigned kShareBits = 20;  ///< of a share's number: of as many as KnownShares can have

  /// As call_of(), whatever identity the calling thread has.
  using CallOf = std::uint64_t (*)(pid_t thread);
  /// As PathWalk::begun_at, whatever identity the calling thread has.
  using WalkOf = std::optional<std::uint64_t> (*)(pid_t thread);

  /// `area`: outlives this; null: there will be no successor.
  StaleRetries(StaleRetryArea* area, CallOf call_of, WalkOf walk_of);

  // Of a thread that waits for the answer to a request. `share`: its number, KnownShare::index().

  /// Whether anything is known of it in any share. Costs next to nothing.
  [[nodiscard]] bool is_known(pid_t thread) const noexcept;
  [[nodiscard]] Stage stage_of(pid_t thread, std::uint32_t share, TimePoint now);
  /// False: too many are known, or the thread cannot be seen from here (0).
  bool set(pid_t thread, std::uint32_t share, Stage stage, TimePoint now);
  /// The same of one that is answered ESTALE now: it is kOnItsWay.
  bool set_sent_back(pid_t thread, std::uint32_t share, TimePoint now);
  /// Notes the walk of one that was sent back from `share` and walks again now.
  void set_walk(pid_t thread, std::uint32_t share, std::uint64_t walk);
  /// Whether the thread was answered ESTALE in another share, perhaps in this walk's call. If it were sent back again,
  /// its program would see ESTALE. Either it has not come to that share's name since, because another incarnation of
  /// the share has taken the name. Or it walks from where it walked when it came there.
  [[nodiscard]] bool was_sent_back_elsewhere(pid_t thread, std::uint32_t share, TimePoint now);
  /// When the thread last asked for something in another share, if it was answered ESTALE there in this call, perhaps.
  /// A symbolic link may lead from that share into this one.
  [[nodiscard]] std::optional<TimePoint> came_from_elsewhere(pid_t thread, std::uint32_t share);
  /// Notes that one that is kWalking or kInsideTwice has asked again. False: it is not.
  bool touch(pid_t thread, std::uint32_t share, TimePoint now);

  /// A thread, and when it asked for something last.
  struct Seen {
    pid_t thread;
    TimePoint last;
  };
  /// Threads that are kWalking or kInsideTwice in `share`: they may be between two walks.
  [[nodiscard]] std::vector<Seen> walking_in(std::uint32_t share, TimePoint now) const;
  /// Threads that are kPassed in `share`, however long ago.
  [[nodiscard]] std::vector<Seen> passed_in(std::uint32_t share) const;
  /// One of these was seen to be in no such call: what it asks for next belongs to another one. False: it has asked for
  /// something meanwhile.
  bool has_ended(const Seen& seen, std::uint32_t share);

 private:
  /// Of so many, which are the records of the threads whose numbers leave the same remainder.
  static constexpr std::size_t kInSet = 8;

  [[nodiscard]] std::span<StaleRetryRecord> set_of(pid_t thread) const noexcept;
  [[nodiscard]] StaleRetryRecord* find(pid_t thread, std::uint32_t share) const BERTH_REQUIRES(mutex_);
  [[nodiscard]] std::optional<std::uint64_t>& walk_in(const StaleRetryRecord& record) BERTH_REQUIRES(mutex_);
  [[nodiscard]] StaleRetryRecord* make_room(pid_t thread, TimePoint now) BERTH_REQUIRES(mutex_);
  bool put(pid_t thread, std::uint32_t share, Stage stage, TimePoint now, std::optional<std::uint64_t> call);

  const std::unique_ptr<StaleRetryArea> own_;
  StaleRetryArea& area_;
  const CallOf call_of_;
  const WalkOf walk_of_;
  mutable Mutex mutex_;
  /// Of each record; nothing: not known, as after the death of a server.
  std::array<std::optional<std::uint64_t>, StaleRetryArea::kMost> walks_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
