#pragma once

#include <cstdint>

#include "src/base/clock.h"

namespace berth::manager {

/// Whether this host gives out shares, and how often it has begun to: what Nova calls host_up, host_down and their
/// generations.
///
/// Plain on purpose: it is written to disk, and handed from one server to the next, which goes on in the same generation.
struct HostState {
  bool up = false;
  std::uint64_t next_generation = 0;  ///< of what the next resume builds
  WallTime since{};                   ///< of the last change; the epoch: never

  /// The generation that is up, or was last. Meaningless while next_generation is 0: there has been none.
  [[nodiscard]] std::uint64_t generation() const noexcept { return next_generation == 0 ? 0 : next_generation - 1; }

  friend bool operator==(const HostState&, const HostState&) = default;
};

}  // namespace berth::manager
