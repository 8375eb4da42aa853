#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fuse/kept/kept_state.h"

namespace berth::fuse {

/// Pages that the kernel has written back and was told to be written, and that are not written yet. Each is a request
/// (WRITE), as it was read. The next server writes what is left.
///
/// Threading: any thread, without a lock; inherited() before there is another one.
class UnwrittenPages {
 public:
  /// `area`: null where there will be no next server.
  explicit UnwrittenPages(UnwrittenArea* area) noexcept : area_(area) {}

  /// Keeps a copy. The answer is its slot; nothing: there is no room.
  std::optional<std::uint32_t> keep(std::span<const char> message) noexcept;
  /// It has been written, or will not be.
  void drop(std::uint32_t slot) noexcept;

  struct Inherited {
    std::uint32_t slot;
    std::uint64_t order;
    std::vector<char> message;
  };
  /// What a dead server has kept, in the order in which it has.
  [[nodiscard]] std::vector<Inherited> inherited();

 private:
  UnwrittenArea* const area_;
  std::atomic<std::uint32_t> next_{0};  ///< where a free slot is looked for
};

}  // namespace berth::fuse
