#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>

#include "fuse/tables/node_table.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// Keeps the number of nodes about a limit: above it, the kernel is asked to drop those that have not been used
/// for longest, until a sixteenth less is left. The kernel's FORGETs then free them.
///
/// The limit is soft. The kernel keeps what is open, a working directory, mounted on, or above something that it keeps;
/// it is asked again when a sixteenth more has come, or after a while that doubles up to ten seconds.
///
/// Threading: a thread of its own, for which no request ever waits.
class NodePruner {
 public:
  /// Has the kernel drop these, dentry it can. Called on the pruner's thread alone.
  using Drop = std::function<Result<>(std::span<const NodeId>)>;

  /// `nodes` outlives this; before its first request, or the last one's successor's. When `drop` fails nothing is asked
  /// any more. Errors: EAGAIN when there is no thread.
  static Result<std::unique_ptr<NodePruner>> start(NodeTable& nodes, std::size_t limit, Drop drop);
  /// Waits for the thread, which may be in the kernel.
  ~NodePruner();
  NodePruner(const NodePruner&) = delete;
  NodePruner& operator=(const NodePruner&) = delete;

 private:
  NodePruner(NodeTable& nodes, std::size_t limit, Drop drop);

  void run();
  bool wait();
  bool pause(std::chrono::milliseconds most, std::size_t unless_above);
  bool settle(std::size_t freed);
  Result<std::size_t> sweep();

  NodeTable& nodes_;
  const std::size_t limit_;
  const Drop drop_;
  NodeTable::ClockHand hand_;  ///< the thread's

  Mutex mutex_;
  ConditionVariable changed_;
  bool called_ BERTH_GUARDED_BY(mutex_) = false;  ///< there are more nodes than call_when_above() was given
  bool stopping_ BERTH_GUARDED_BY(mutex_) = false;

  std::thread thread_;  ///< last, for it uses the others
};

}  // namespace berth::fuse
