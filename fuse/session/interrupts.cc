#include "fuse/session/interrupts.h"

#include <linux/fuse.h>

#include <algorithm>
#include <chrono>

#include "src/lib/sys/other_threads.h"

namespace berth::fuse {
namespace {

/// An interrupted request that is not stuck in a share by then has been answered.
constexpr std::chrono::seconds kInterruptKept{2};
constexpr std::size_t kMostInterrupts = 16384;
/// After so long the kernel sends the interrupt of a caller again that is only to stop.
constexpr std::chrono::milliseconds kRepeat{20};
/// How many it sends again in that time: each costs a look at the caller.
constexpr std::size_t kMostRepeats = 32;
/// In the number of a request: that of its interrupt (FUSE_INT_REQ_BIT, fs/fuse/dev.c).
constexpr std::uint64_t kOfInterrupt = 1;

}  // namespace

void Interrupts::add(std::uint64_t unique) {
  MutexLock lock(mutex_);
  // One that is sent again is known already.
  std::erase_if(pending_, [unique](const Interrupt& one) { return one.unique == unique; });
  if (pending_.size() >= kMostInterrupts) pending_.pop_front();
  pending_.push_back({unique, std::chrono::steady_clock::now()});
  pending_now_ = pending_.size();
}

void Interrupts::end_requests(TimePoint now, const std::function<bool(std::uint64_t unique)>& try_end) {
  if (pending_now_ == 0) return;
  std::deque<Interrupt> all;
  {
    MutexLock lock(mutex_);
    all = pending_;
  }
  std::vector<std::uint64_t> over;
  for (const Interrupt& one : all) {
    if (try_end(one.unique) || now - one.since >= kInterruptKept) over.push_back(one.unique);
  }
  std::sort(over.begin(), over.end());
  MutexLock lock(mutex_);
  std::erase_if(pending_,
                [&](const Interrupt& one) { return std::binary_search(over.begin(), over.end(), one.unique); });
  pending_now_ = pending_.size();
}

bool Interrupts::ends_request(std::uint64_t unique, pid_t caller, std::uint32_t opcode) {
  if (opcode == FUSE_SETLKW || sys::has_signal_to_handle(caller)) return true;
  MutexLock lock(mutex_);
  if (again_.size() >= kMostInterrupts) return true;
  again_.push_back({unique, std::chrono::steady_clock::now()});
  again_now_ = again_.size();
  return false;
}

std::vector<std::uint64_t> Interrupts::take_due(TimePoint now) {
  std::vector<std::uint64_t> due;
  if (again_now_ == 0 || now - taken_ < kRepeat) return due;
  taken_ = now;
  MutexLock lock(mutex_);
  while (!again_.empty() && now - again_.front().since >= kRepeat && due.size() < kMostRepeats) {
    due.push_back(again_.front().unique | kOfInterrupt);
    again_.pop_front();
  }
  again_now_ = again_.size();
  return due;
}

}  // namespace berth::fuse
