#pragma once

#include <cstddef>
#include <cstdint>

#include "src/lib/base/clock.h"

namespace berth::manager {

/// Whether this host gives out shares, and how often it has begun to: what Nova calls host_up, host_down and their
/// generations.
///
/// Plain on purpose: it is written to disk, and handed from one server to the next, which continues in the same
/// generation.
struct HostState {
  bool up = false;
  std::uint64_t next_generation = 0;  ///< of what the next resume builds
  WallTime since{};                   ///< of the last change; the epoch: never

  /// The generation that is up, or was last. Meaningless while next_generation is 0: there has been none.
  [[nodiscard]] std::uint64_t generation() const noexcept { return next_generation == 0 ? 0 : next_generation - 1; }

  friend bool operator==(const HostState&, const HostState&) = default;
};

/// The state of the host, as the status shows it.
struct HostStatus {
  HostState state;
  bool is_draining = false;  ///< down, and something is still in use
  bool is_resuming = false;  ///< a resume waits for what has begun before it
  std::size_t uses = 0;      ///< of this generation: operations that have begun and not ended (see Manager::resume)
};

/// The host state after a restart of everything, where `kept` was on disk: up in a new generation, or still
/// drained, until a caller asks to resume.
[[nodiscard]] inline HostState next_generation_of(const HostState& kept, WallTime now) noexcept {
  const bool is_drained = !kept.up && kept.next_generation > 0;
  if (is_drained) return kept;
  return {.up = true, .next_generation = kept.next_generation + 1, .since = now};
}

}  // namespace berth::manager
