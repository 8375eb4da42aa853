#include "fuse/node_pruner.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "src/log/log.h"
#include "src/sys/thread.h"

namespace berth::fuse {
namespace {

/// Asked for in one call.
constexpr std::size_t kBatch = 512;
/// For the FORGETs of what was dropped to come in.
constexpr std::chrono::milliseconds kShortest{5};
constexpr std::chrono::milliseconds kLongest{10'000};

constexpr std::size_t some_of(std::size_t limit) noexcept { return limit / 16 + 1; }

}  // namespace

Result<std::unique_ptr<NodePruner>> NodePruner::start(NodeTable& nodes, std::size_t limit, Drop drop) {
  std::unique_ptr<NodePruner> pruner(new NodePruner(nodes, limit, std::move(drop)));
  pruner->thread_ = TRY(sys::start_thread("berth-prune", [it = pruner.get()] { it->run(); }));
  return pruner;
}

NodePruner::NodePruner(NodeTable& nodes, std::size_t limit, Drop drop)
    : nodes_(nodes), limit_(limit), drop_(std::move(drop)) {
  nodes_.set_alarm([this] {
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
  nodes_.call_above(limit_);
  MutexLock lock(mutex_);
  while (!called_ && !stopping_) changed_.wait(mutex_);
  called_ = false;
  return !stopping_;
}

/// Until many more have come, at most so long; false when it is time to end.
bool NodePruner::pause(std::chrono::milliseconds most) {
  nodes_.call_above(std::max(limit_, nodes_.size()) + some_of(limit_));
  const auto deadline = std::chrono::steady_clock::now() + most;
  MutexLock lock(mutex_);
  while (!called_ && !stopping_ && changed_.wait_until(mutex_, deadline)) continue;
  called_ = false;
  return !stopping_;
}

void NodePruner::run() {
  while (wait()) {
    std::chrono::milliseconds patience = kShortest;
    for (std::size_t before = nodes_.size(); before > limit_; before = nodes_.size()) {
      if (const Result<> swept = sweep(); !swept) {
        return log::warning("nodes are not kept below {}: {}", limit_, swept.error().message());
      }
      if (!pause(patience)) return;
      patience = nodes_.size() < before ? kShortest : std::min(2 * patience, kLongest);
    }
  }
}

/// Once round at least what is cold, twice at most: what was used lately is spared in the first turn.
Result<> NodePruner::sweep() {
  const std::size_t size = nodes_.size();
  const std::size_t goal = limit_ - std::min(limit_, some_of(limit_));
  std::size_t excess = size - std::min(size, goal);
  for (std::size_t steps = 2 * (nodes_.places() + NodeArea::kParts); excess > 0 && steps > 0;) {
    const std::vector<NodeId> cold = nodes_.cold(hand_, steps, std::min(excess, kBatch));
    if (!cold.empty()) TRY_VOID(drop_(cold));
    excess -= cold.size();
  }
  return {};
}

}  // namespace berth::fuse
