#include "src/lib/sys/task_pool.h"

#include <deque>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "src/lib/base/mutex.h"
#include "src/lib/sys/identity.h"
#include "src/lib/sys/thread.h"

namespace berth::sys {

/// Shared with the threads, so that those that are left alone by abandon() have something to come back to.
struct TaskPool::State : std::enable_shared_from_this<TaskPool::State> {
  State(std::string pool_name, std::size_t most_threads, std::chrono::milliseconds longest_idle)
      : name(std::move(pool_name)), max_threads(most_threads), idle_time(longest_idle) {}

  void submit(Task task);
  void start_worker();
  void work();
  bool take(Task& task, std::vector<std::thread>& to_join);
  std::vector<std::thread> take_ended() BERTH_REQUIRES(mutex);
  void run(Task& task);
  void run_here();
  void finish();

  const std::string name;
  const std::size_t max_threads;
  const std::chrono::milliseconds idle_time;

  Mutex mutex;
  ConditionVariable task_added;
  ConditionVariable task_done;  ///< or a thread ended
  std::deque<Task> queue BERTH_GUARDED_BY(mutex);
  std::size_t threads BERTH_GUARDED_BY(mutex) = 0;
  std::size_t running BERTH_GUARDED_BY(mutex) = 0;
  bool stopping BERTH_GUARDED_BY(mutex) = false;
  bool abandoned BERTH_GUARDED_BY(mutex) = false;
  bool finished BERTH_GUARDED_BY(mutex) = false;  ///< the pool is gone
  std::map<std::thread::id, std::thread> handles BERTH_GUARDED_BY(mutex);
  std::vector<std::thread::id> ended BERTH_GUARDED_BY(mutex);  ///< at their end; to be joined
};

namespace {

/// Of which pool the calling thread is; null: of none.
thread_local const void* pool_of_thread = nullptr;

}  // namespace

void TaskPool::State::submit(Task task) {
  bool need_thread = false;
  {
    const MutexLock lock(mutex);
    queue.push_back(std::move(task));
    // A thread that does not run a task is about to take one, be it only starting.
    need_thread = queue.size() > threads - running && threads < max_threads;
    if (need_thread) ++threads;
  }
  if (need_thread) {
    start_worker();
  } else {
    task_added.notify_one();
  }
}

void TaskPool::State::start_worker() {
  Result<std::thread> worker = start_thread(name, [self = shared_from_this()] { self->work(); });
  bool is_without_threads = false;
  {
    const MutexLock lock(mutex);
    if (worker && finished) return worker->detach();  // its very task was what destroyed the pool
    if (worker) {
      const std::thread::id id = worker->get_id();
      handles.emplace(id, *std::move(worker));
      return;
    }
    --threads;
    is_without_threads = threads == 0;
  }
  if (is_without_threads) run_here();
}

/// Waits for a task. False when the thread must end: nothing to do for idle_time and others are there, or the pool
/// ends. It then counts as ended from the moment of that decision, so that no task waits for it.
bool TaskPool::State::take(Task& task, std::vector<std::thread>& to_join) {
  const auto deadline = std::chrono::steady_clock::now() + idle_time;
  const MutexLock lock(mutex);
  bool in_time = true;
  while (queue.empty() && !stopping && in_time) {
    if (threads == 1) {
      task_added.wait(mutex);  // the next task need not wait until there is a thread
    } else {
      in_time = task_added.wait_until(mutex, deadline) || threads == 1;
    }
  }
  if (queue.empty()) {
    --threads;
    to_join = take_ended();
    ended.push_back(std::this_thread::get_id());
    return false;
  }
  task = std::move(queue.front());
  queue.pop_front();
  ++running;
  return true;
}

/// The handles of threads that have ended, so that at most a few wait to be joined.
std::vector<std::thread> TaskPool::State::take_ended() {
  std::vector<std::thread> result;
  std::erase_if(ended, [this, &result](std::thread::id id) BERTH_NO_THREAD_SAFETY_ANALYSIS {
    auto node = handles.extract(id);
    if (node) result.push_back(std::move(node.mapped()));
    return !node.empty();
  });
  return result;
}

void TaskPool::State::run(Task& task) {
  task();
  task = Task();  // what it owned goes before it counts as done
  assume_daemon();
  {
    const MutexLock lock(mutex);
    --running;
  }
  task_done.notify_all();
}

void TaskPool::State::work() {
  pool_of_thread = this;
  Task task;
  std::vector<std::thread> to_join;
  while (take(task, to_join)) run(task);
  task_done.notify_all();
  for (std::thread& thread : to_join) thread.join();
}

/// Without any thread: the caller of submit() does the work.
void TaskPool::State::run_here() {
  const AsDaemon as_daemon;
  for (;;) {
    Task task;
    {
      const MutexLock lock(mutex);
      if (queue.empty()) return;
      task = std::move(queue.front());
      queue.pop_front();
      ++running;
    }
    run(task);
  }
}

/// Also on a thread of the pool: a task may own the last of what owns the pool. That thread ends by itself, afterwards.
void TaskPool::State::finish() {
  const std::thread::id here = std::this_thread::get_id();
  std::deque<Task> dropped;
  std::map<std::thread::id, std::thread> left;
  bool leave_alone = false;
  {
    const MutexLock lock(mutex);
    stopping = true;
    leave_alone = abandoned;
    if (leave_alone) dropped.swap(queue);
  }
  task_added.notify_all();
  {
    const MutexLock lock(mutex);
    const std::size_t own = pool_of_thread == this ? 1 : 0;
    while (threads > own && !leave_alone) task_done.wait(mutex);
    left.swap(handles);
    finished = true;
  }
  for (auto& [id, thread] : left) {
    if (leave_alone || id == here) {
      thread.detach();
    } else {
      thread.join();
    }
  }
}

TaskPool::TaskPool(std::string name, std::size_t max_threads, std::chrono::milliseconds idle_time)
    : state_(std::make_shared<State>(std::move(name), max_threads, idle_time)) {}

TaskPool::~TaskPool() { state_->finish(); }

void TaskPool::submit(Task task) { state_->submit(std::move(task)); }

void TaskPool::drain() {
  const MutexLock lock(state_->mutex);
  while (!state_->queue.empty() || state_->running > 0) state_->task_done.wait(state_->mutex);
}

void TaskPool::detach_threads() noexcept {
  const MutexLock lock(state_->mutex);
  state_->abandoned = true;
}

TaskPool::Counts TaskPool::counts() const {
  const MutexLock lock(state_->mutex);
  return {.threads = state_->threads, .running = state_->running, .queued = state_->queue.size()};
}

}  // namespace berth::sys
