#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "src/lib/base/unique_function.h"

namespace berth::sys {

/// Runs tasks that may block, each on a thread of the pool. Threads are started when all are busy, up to a limit, and
/// end after some idle time; tasks beyond the limit wait their turn.
///
/// Every task begins as the daemon (identity.h) and with all signals blocked.
///
/// Threading: any thread may submit, tasks too.
class TaskPool {
 public:
  static constexpr std::chrono::seconds kIdleTime{10};

  /// `name`: at most 15 bytes, as the threads are shown by ps(1). `max_threads` >= 1. A thread that had nothing to do
  /// for `idle_time` ends, but for the last one.
  TaskPool(std::string name, std::size_t max_threads, std::chrono::milliseconds idle_time = kIdleTime);
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;
  /// Waits for running tasks, after running the queued ones.
  ~TaskPool();

  /// Errors cannot happen: where no thread can be started the task waits for one that runs, and where none runs it is
  /// run here.
  void submit(Task task);

  /// Waits until nothing is queued and nothing runs.
  void drain();

  /// Leaves threads that do not come back alone (their tasks are stuck in the kernel) instead of waiting for them in
  /// the destructor; what is still queued then is dropped. For the last steps of a process.
  void detach_threads() noexcept;

  struct Counts {
    std::size_t threads, running, queued;
  };
  [[nodiscard]] Counts counts() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace berth::sys
