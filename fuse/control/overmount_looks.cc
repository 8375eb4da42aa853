#include "fuse/control/overmount_looks.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace berth::fuse {
namespace {

/// From the end of a look to the next one: as many times what it cost, and at least that long.
constexpr int kRest = 20;
constexpr std::chrono::milliseconds kShortestRest{100};

}  // namespace

std::shared_ptr<const OvermountUsers> OvermountLooks::latest(
    const std::function<std::vector<std::uint64_t>()>& overmounts) {
  {
    MutexLock lock(mutex_);
    if (looking_) return wait();
    if (!look_ || clock_.now() < next_) return last_;
    looking_ = true;
  }
  // Where memory runs out the readers that wait get the last one.
  std::shared_ptr<const OvermountUsers> found;
  {
    const std::shared_ptr<void> ends(nullptr, [&](void*) { end(found); });
    found = std::make_shared<const OvermountUsers>(look_(overmounts()));
  }
  return found;
}

std::shared_ptr<const OvermountUsers> OvermountLooks::wait() {
  if (waiting_ >= kMostWaiting) return last_;
  ++waiting_;
  while (looking_) ended_.wait(mutex_);
  --waiting_;
  return last_;
}

void OvermountLooks::end(std::shared_ptr<const OvermountUsers> found) {
  const TimePoint now = clock_.now();
  const Duration cost = found != nullptr ? found->cost : Duration::zero();
  MutexLock lock(mutex_);
  if (found != nullptr) std::swap(last_, found);
  looking_ = false;
  next_ = now + std::max<Duration>(kRest * cost, kShortestRest);
  ended_.notify_all();
}

}  // namespace berth::fuse
