#include "fuse/callers/caller_cpus.h"

#include <algorithm>
#include <chrono>

namespace berth::fuse {
namespace {

// In an entry, from below: thread, processor, steps, time. A thread's number has 22 bits (PID_MAX_LIMIT,
// linux/threads.h).
constexpr unsigned kThreadBits = 22;
constexpr unsigned kProcessorBits = 12;
constexpr unsigned kStepsBits = 3;
constexpr unsigned kTimeBits = 64 - kThreadBits - kProcessorBits - kStepsBits;

constexpr std::uint32_t bits(std::uint64_t value, unsigned from, unsigned count) noexcept {
  return static_cast<std::uint32_t>(value >> from & ((std::uint64_t{1} << count) - 1));
}

/// Time is counted in these; it wraps around in an hour and a half, after which a look is late or early once.
using Tick = std::chrono::duration<std::int64_t, std::ratio<50, 1'000'000>>;
/// A thread that asks for the first time may never do so again.
constexpr std::uint32_t kAskedOften = 4;
/// A caller that may have moved is looked up after four ticks (200 us), then eight and so on, and each one after 40 (2
/// ms).
constexpr std::uint32_t kLookSoon = 4;
constexpr std::uint32_t kLookLate = 40;
constexpr std::uint32_t kMostSteps = 4;

}  // namespace

std::uint32_t CallerCpus::time_of(TimePoint now) noexcept {
  const auto ticks = std::chrono::duration_cast<Tick>(now.time_since_epoch()).count();
  return bits(static_cast<std::uint64_t>(ticks), 0, kTimeBits);
}

std::uint64_t CallerCpus::pack(const Entry& entry) noexcept {
  return std::uint64_t{entry.thread} | std::uint64_t{entry.processor} << kThreadBits |
         std::uint64_t{entry.steps} << (kThreadBits + kProcessorBits) |
         std::uint64_t{entry.time} << (kThreadBits + kProcessorBits + kStepsBits);
}

CallerCpus::Entry CallerCpus::unpack(std::uint64_t packed) noexcept {
  return {.thread = bits(packed, 0, kThreadBits),
          .processor = bits(packed, kThreadBits, kProcessorBits),
          .steps = bits(packed, kThreadBits + kProcessorBits, kStepsBits),
          .time = bits(packed, kThreadBits + kProcessorBits + kStepsBits, kTimeBits)};
}

CallerCpus::Entry CallerCpus::load(pid_t thread) const noexcept {
  const auto number = static_cast<std::uint32_t>(thread);
  const Entry found = unpack(entries_[number % kEntries].load(std::memory_order_relaxed));
  return found.thread == number ? found : Entry{.thread = number};
}

void CallerCpus::store(const Entry& entry) noexcept {
  entries_[entry.thread % kEntries].store(pack(entry), std::memory_order_relaxed);
}

std::optional<unsigned> CallerCpus::cpu_of(pid_t thread) const noexcept {
  if (thread <= 0) return std::nullopt;
  const Entry entry = load(thread);
  return entry.processor != kUnknown ? std::optional(entry.processor) : std::nullopt;
}

bool CallerCpus::needs_lookup(pid_t thread, TimePoint now, bool may_have_moved) noexcept {
  if (thread <= 0) return false;
  Entry entry = load(thread);
  if (entry.processor == kUnknown) {
    if (++entry.steps >= kAskedOften) return true;
    store(entry);
    return false;
  }
  const std::uint32_t age = bits(time_of(now) - std::uint64_t{entry.time}, 0, kTimeBits);
  return age >= (may_have_moved ? std::min(kLookSoon << entry.steps, kLookLate) : kLookLate);
}

void CallerCpus::note(pid_t thread, unsigned processor, TimePoint now) noexcept {
  if (thread <= 0 || processor >= kUnknown) return;
  Entry entry = load(thread);
  entry.steps = entry.processor == processor ? std::min(entry.steps + 1, kMostSteps) : 0;
  entry.processor = processor;
  entry.time = time_of(now);
  store(entry);
}

}  // namespace berth::fuse
