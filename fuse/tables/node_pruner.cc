#include "fuse/tables/node_pruner.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "src/lib/log/log.h"
#include "src/lib/sys/thread.h"

namespace berth::fuse {
namespace {

/// Asked for in one call.
constexpr std::size_t kBatch = 512;
/// How often it is looked whether the FORGETs of what was dropped have come, and how long after the last one no more
/// do.
constexpr std::chrono::milliseconds kTick{5};
constexpr std::chrono::milliseconds kQuiet{250};
/// Between two sweeps of which the first had little effect.
constexpr std::chrono::milliseconds kShortest{100};
constexpr std::chrono::milliseconds kLongest{10'000};
constexpr std::size_t kNobodyCalls = ~std::size_t{0};

constexpr std::size_t some_of(std::size_t limit) noexcept { return limit / 16 + 1; }

}  // namespace

Result<std::unique_ptr<NodePruner>> NodePruner::start(NodeTable& nodes, std::size_t limit, Drop drop) {
  std::unique_ptr<NodePruner> pruner(new NodePruner(nodes, limit, std::move(drop)));
  pruner->thread_ = TRY(sys::start_thread("berth-prune", [it = pruner.get()] { it->run(); }));
  return pruner;
}

NodePruner::NodePruner(NodeTable& nodes, std::size_t limit, Drop drop)
    : nodes_(nodes), limit_(limit), drop_(std::move(drop)) {
  nodes_.set_limit_callback([this] {
    MutexLock lock(mutex_);
    called_ = true;
    changed_.notify_one();
  });
}

NodePruner::~NodePruner() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

/// Until there are too many; false when it is time to end.
bool NodePruner::wait() {
  nodes_.call_when_above(limit_);
  MutexLock lock(mutex_);
  while (!called_ && !stopping_) changed_.wait(mutex_);
  called_ = false;
  return !stopping_;
}

/// At most so long, and until there are so many; false when it is time to end.
bool NodePruner::pause(std::chrono::milliseconds most, std::size_t unless_above) {
  nodes_.call_when_above(unless_above);
  const auto deadline = std::chrono::steady_clock::now() + most;
  MutexLock lock(mutex_);
  while (!called_ && !stopping_ && changed_.wait_until(mutex_, deadline)) continue;
  called_ = false;
  return !stopping_;
}

/// Waits until so many have been freed in all, or no more come for a while. Otherwise other nodes would be dropped
/// instead of those whose FORGETs are still on their way. False when it is time to end.
bool NodePruner::settle(std::size_t freed) {
  std::size_t last = nodes_.freed();
  for (std::chrono::milliseconds quiet{}; nodes_.freed() < freed && quiet < kQuiet; quiet += kTick) {
    if (!pause(kTick, kNobodyCalls)) return false;
    if (std::exchange(last, nodes_.freed()) < nodes_.freed()) quiet = {};
  }
  return true;
}

void NodePruner::run() {
  while (wait()) {
    std::chrono::milliseconds patience = kShortest;
    while (nodes_.size() > limit_) {
      const std::size_t before = nodes_.freed();
      const Result<std::size_t> asked = sweep();
      if (!asked) return log::warning("nodes are not kept below {}: {}", limit_, asked.error().message());
      if (!settle(before + *asked)) return;
      if (nodes_.freed() - before >= some_of(limit_) || nodes_.size() <= limit_) {
        patience = kShortest;
        continue;
      }
      if (!pause(patience, std::max(limit_, nodes_.size()) + some_of(limit_))) return;
      patience = std::min(2 * patience, kLongest);
    }
  }
}

/// Goes round once at least, twice at most, and drops what is cold. The first turn spares what has its reference bit
/// set. Answers how many nodes the kernel was asked to drop.
Result<std::size_t> NodePruner::sweep() {
  const std::size_t size = nodes_.size();
  const std::size_t goal = limit_ - std::min(limit_, some_of(limit_));
  const std::size_t excess = size - std::min(size, goal);
  std::size_t asked = 0;
  for (std::size_t steps = 2 * (nodes_.slots() + NodeArea::kParts); asked < excess && steps > 0;) {
    const std::vector<NodeId> collect_cold = nodes_.collect_cold(hand_, steps, std::min(excess - asked, kBatch));
    if (!collect_cold.empty()) TRY_VOID(drop_(collect_cold));
    asked += collect_cold.size();
  }
  return asked;
}

}  // namespace berth::fuse
