#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <map>
#include <optional>

#include "src/lib/base/clock.h"

namespace berth::manager {

/// Which mounts may begin: so many at once that they do not overload this host or a server. One that takes long only waits for a
/// server that does not answer, and keeps no other mount waiting: it gives its slot to the next. Those of this host alone have slots of
/// their own, for they wait for no server.
///
/// Threading: one thread.
template <typename Mount>
class MountSlots {
 public:
  enum class Kind : std::size_t { kLocal, kRemote };
  /// A mount that takes longer has no slot any more.
  static constexpr std::chrono::seconds kSlow{1};
  /// Most that are under way, in slots.
  static constexpr std::size_t kMostSlow = 16;

  /// `slots` >= 1, of each kind.
  explicit MountSlots(std::size_t slots) noexcept : slots_(slots) {}

  void add(Mount* mount, Kind kind, TimePoint deadline) { queues_[index(kind)].push_back({mount, deadline}); }

  struct Turn {
    Mount* mount;
    TimePoint deadline;
  };
  /// The next that is to begin now, which has its slot then; nothing: none, or it has to wait.
  [[nodiscard]] std::optional<Turn> next(TimePoint now) {
    for (const Kind kind : {Kind::kLocal, Kind::kRemote}) {
      auto& queue = queues_[index(kind)];
      if (queue.empty() || !has_place(kind, now)) continue;
      const Turn turn = queue.front();
      queue.pop_front();
      running_[turn.mount] = {kind, now};
      return turn;
    }
    return std::nullopt;
  }
  /// It is over; false: it was not under way.
  bool end(Mount* mount) { return running_.erase(mount) != 0; }
  /// When one that waits gets the slot of one that takes long.
  [[nodiscard]] std::optional<TimePoint> next_at(TimePoint now) const {
    std::optional<TimePoint> next;
    for (const auto& [mount, running] : running_) {
      const TimePoint slow = running.since + kSlow;
      if (queues_[index(running.kind)].empty() || slow <= now) continue;
      if (!next || slow < *next) next = slow;
    }
    return next;
  }

 private:
  struct Running {
    Kind kind;
    TimePoint since;
  };
  static constexpr std::size_t index(Kind kind) noexcept { return static_cast<std::size_t>(kind); }
  [[nodiscard]] bool has_place(Kind kind, TimePoint now) const {
    std::size_t quick = 0, all = 0;
    for (const auto& [mount, running] : running_) {
      if (running.kind != kind) continue;
      ++all;
      if (running.since + kSlow > now) ++quick;
    }
    return quick < slots_ && all < slots_ * kMostSlow;
  }

  const std::size_t slots_;
  std::array<std::deque<Turn>, 2> queues_;
  std::map<Mount*, Running> running_;
};

}  // namespace berth::manager
