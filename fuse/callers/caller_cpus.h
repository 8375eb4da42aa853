#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "src/lib/base/clock.h"

namespace berth::fuse {

/// On which processors calling threads were when a worker last looked. The threads that called last are remembered, one
/// for each slot of a small table; a thread that was forgotten is looked for again.
///
/// Threading: any thread may call anything.
class CallerCpus {
 public:
  /// Where `thread` was when it was last looked for.
  [[nodiscard]] std::optional<unsigned> cpu_of(pid_t thread) const noexcept;

  /// `thread` has asked at `now`; answers whether it is time to look for it: when it has asked some times, and then
  /// again, sooner where it `may_have_moved`, later each time that it has not.
  bool needs_lookup(pid_t thread, TimePoint now, bool may_have_moved) noexcept;
  /// It was found there.
  void note(pid_t thread, unsigned processor, TimePoint now) noexcept;

 private:
  struct Entry {
    std::uint32_t thread = 0;
    std::uint32_t processor = kUnknown;
    std::uint32_t steps =
        0;  ///< how often it was found where it was before; where that is not known, how often it has asked
    std::uint32_t time = 0;  ///< of the last look
  };
  static constexpr std::uint32_t kUnknown = 0xfff;
  static constexpr std::size_t kEntries = 512;

  static std::uint32_t time_of(TimePoint now) noexcept;
  static std::uint64_t pack(const Entry& entry) noexcept;
  static Entry unpack(std::uint64_t packed) noexcept;
  [[nodiscard]] Entry load(pid_t thread) const noexcept;
  void store(const Entry& entry) noexcept;

  /// Each is replaced as a whole: two threads that write at once cost a look more.
  std::array<std::atomic<std::uint64_t>, kEntries> entries_{};
};

}  // namespace berth::fuse
