#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "src/lib/base/clock.h"

namespace berth::manager {

/// Which mounts may begin: so many at once that they do not overload this host, and of each server so many that this
/// host does not overload it. A mount that takes long only waits for a server that does not answer. It gives its slot
/// to the next, but still counts among those of its server. Mounts of this host alone have slots of their own, because
/// they wait for no server.
///
/// Mounts begin in the order in which they were added. Where a server has enough under way, its mounts let those of
/// others pass. So a thousand shares of one server do not keep the share of another one waiting.
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

  /// `slots` >= 1, of each kind. `of_server` >= 1: of each server.
  MountSlots(std::size_t slots, std::size_t of_server) noexcept : slots_(slots), of_server_(of_server) {}

  /// `server`: "" where it is not known, and so not bounded.
  void add(Mount* mount, Kind kind, TimePoint deadline, const std::string& server = {}) {
    const auto of = servers_[index(kind)].try_emplace(server).first;
    of->second.queue.push_back({{mount, deadline}, order_++});
    if (of->second.queue.size() == 1) note_ready(kind, of);
  }

  struct Turn {
    Mount* mount;
    TimePoint deadline;
  };
  /// The next that is to begin now, which has its slot then; nothing: none, or it has to wait.
  [[nodiscard]] std::optional<Turn> next(TimePoint now) {
    for (const Kind kind : {Kind::kLocal, Kind::kRemote}) {
      auto& ready = ready_[index(kind)];
      if (ready.empty() || !has_slot(kind, now)) continue;
      const auto of = ready.begin()->second;
      ready.erase(ready.begin());
      const Turn turn = of->second.queue.front().turn;
      of->second.queue.pop_front();
      ++of->second.under_way;
      running_[turn.mount] = {kind, now, of};
      note_ready(kind, of);
      return turn;
    }
    return std::nullopt;
  }
  /// It is not to begin any more; false: it does not wait for its turn.
  bool drop(const Mount* mount) {
    for (const Kind kind : {Kind::kLocal, Kind::kRemote}) {
      Servers& servers = servers_[index(kind)];
      for (auto of = servers.begin(); of != servers.end(); ++of) {
        std::deque<Queued>& queue = of->second.queue;
        const auto found = std::find_if(queue.begin(), queue.end(),
                                        [mount](const Queued& queued) { return queued.turn.mount == mount; });
        if (found == queue.end()) continue;
        ready_[index(kind)].erase(queue.front().order);
        queue.erase(found);
        note_ready(kind, of);
        if (of->second.under_way == 0 && queue.empty()) servers.erase(of);
        return true;
      }
    }
    return false;
  }
  /// It is over; false: it was not under way.
  bool end(Mount* mount) {
    const auto found = running_.find(mount);
    if (found == running_.end()) return false;
    const Running running = found->second;
    running_.erase(found);
    const auto of = running.server;
    const bool was_full = !has_room(of);
    --of->second.under_way;
    if (was_full) note_ready(running.kind, of);
    if (of->second.under_way == 0 && of->second.queue.empty()) servers_[index(running.kind)].erase(of);
    return true;
  }
  /// When one that waits gets the slot of one that takes long.
  [[nodiscard]] std::optional<TimePoint> next_at(TimePoint now) const {
    std::optional<TimePoint> next;
    for (const auto& [mount, running] : running_) {
      const TimePoint slow = running.since + kSlow;
      if (ready_[index(running.kind)].empty() || slow <= now) continue;
      if (!next || slow < *next) next = slow;
    }
    return next;
  }

 private:
  struct Queued {
    Turn turn;
    std::uint64_t order;
  };
  struct Server {
    std::size_t under_way = 0;
    std::deque<Queued> queue;
  };
  using Servers = std::map<std::string, Server>;
  struct Running {
    Kind kind;
    TimePoint since;
    typename Servers::iterator server;
  };
  static constexpr std::size_t index(Kind kind) noexcept { return static_cast<std::size_t>(kind); }
  [[nodiscard]] bool has_room(typename Servers::iterator server) const noexcept {
    return server->first.empty() || server->second.under_way < of_server_;
  }
  /// Its first mount may begin as soon as there is a slot.
  void note_ready(Kind kind, typename Servers::iterator server) {
    const auto& queue = server->second.queue;
    if (!queue.empty() && has_room(server)) ready_[index(kind)].emplace(queue.front().order, server);
  }
  [[nodiscard]] bool has_slot(Kind kind, TimePoint now) const {
    std::size_t quick = 0, all = 0;
    for (const auto& [mount, running] : running_) {
      if (running.kind != kind) continue;
      ++all;
      if (running.since + kSlow > now) ++quick;
    }
    return quick < slots_ && all < slots_ * kMostSlow;
  }

  const std::size_t slots_;
  const std::size_t of_server_;
  std::uint64_t order_ = 0;
  std::array<Servers, 2> servers_;  ///< of mounts that wait or are under way
  /// Those with room, by the order of their first mount that waits.
  std::array<std::map<std::uint64_t, typename Servers::iterator>, 2> ready_;
  std::map<Mount*, Running> running_;
};

}  // namespace berth::manager
