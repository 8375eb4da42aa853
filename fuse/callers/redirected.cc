#include "fuse/callers/redirected.h"

#include <algorithm>
#include <chrono>
#include <iterator>

namespace berth::fuse {
namespace {

/// Between being told, or going on from the share's name, and asking about the file. Most never do.
constexpr std::chrono::seconds kLongestWalk{2};

/// A thread's number, when it was told last, and whether it has arrived: one store.
struct Told {
  pid_t thread = 0;
  std::uint32_t at = 0;  ///< in milliseconds of the monotonic clock, the lowest 31 bits
  bool arrived = false;

  static constexpr std::uint32_t kTimeMask = 0x7fffffff;

  static Told of(std::uint64_t word) noexcept {
    return {.thread = static_cast<pid_t>(word >> 32),
            .at = static_cast<std::uint32_t>(word >> 1) & kTimeMask,
            .arrived = (word & 1) != 0};
  }
  [[nodiscard]] std::uint64_t word() const noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(thread)} << 32 | std::uint64_t{at} << 1 | (arrived ? 1U : 0U);
  }
  static std::uint32_t clock(TimePoint now) noexcept {
    const auto time = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
    return static_cast<std::uint32_t>(time.count()) & kTimeMask;
  }
  [[nodiscard]] bool is_over(TimePoint now) const noexcept {
    const std::uint32_t age = (clock(now) - at) & kTimeMask;
    return thread == 0 || age > std::chrono::milliseconds(kLongestWalk).count();
  }
};

}  // namespace

Redirected::Redirected(RedirectedArea* area)
    : own_(area != nullptr ? nullptr : std::make_unique<RedirectedArea>()), area_(area != nullptr ? *area : *own_) {
  // By a server before this one.
  if (area != nullptr) last_told_ = std::chrono::steady_clock::now().time_since_epoch().count();
}

Redirected::Slot* Redirected::find(pid_t thread, TimePoint now) const {
  const auto found = std::find_if(std::begin(area_.told), std::end(area_.told), [&](const Slot& slot) {
    const Told told = Told::of(slot);
    return told.thread == thread && !told.is_over(now);
  });
  return found != std::end(area_.told) ? &*found : nullptr;
}

bool Redirected::add(pid_t thread, TimePoint now) {
  if (thread == 0) return false;
  MutexLock lock(mutex_);
  if (Slot* const told = find(thread, now); told != nullptr) {
    *told = 0;
    return false;
  }
  const auto free = std::find_if(std::begin(area_.told), std::end(area_.told),
                                 [&](const Slot& slot) { return Told::of(slot).is_over(now); });
  if (free == std::end(area_.told)) return false;
  *free = Told{.thread = thread, .at = Told::clock(now)}.word();
  last_told_ = now.time_since_epoch().count();
  return true;
}

bool Redirected::is_on_its_way(pid_t thread, TimePoint now) const {
  if (now > TimePoint(Duration(last_told_.load(std::memory_order_relaxed))) + 2 * kLongestWalk) return false;
  MutexLock lock(mutex_);
  const Slot* const told = find(thread, now);
  return told != nullptr && !Told::of(*told).arrived;
}

void Redirected::arrived(pid_t thread, TimePoint now) {
  MutexLock lock(mutex_);
  Slot* const told = find(thread, now);
  if (told != nullptr) *told = Told{.thread = thread, .at = Told::clock(now), .arrived = true}.word();
}

}  // namespace berth::fuse
