#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace berth::fuse {

/// The kernel's first request: it is sent once in the life of a connection, and each further session is brought up by it.
struct SessionRecord {
  static constexpr std::size_t kMaxInit = 1024;

  std::atomic<std::uint32_t> init_size{0};  ///< 0: not sent yet. Stored last.
  char init[kMaxInit]{};                    ///< as it was read
};

/// What the FUSE layer keeps for the server that succeeds this one, in memory that outlives it. Flat: numbers, no pointers.
/// All zero is the state before the first request. Sparse: what is not used takes no memory.
struct Estate {
  SessionRecord session;
};

}  // namespace berth::fuse
