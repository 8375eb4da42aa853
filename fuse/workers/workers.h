#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "fuse/callers/caller_cpus.h"
#include "fuse/kept/requests.h"
#include "fuse/session/session.h"
#include "fuse/wire/protocol.h"
#include "fuse/workers/cpu_queues.h"
#include "fuse/workers/read_buffer.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// Why a channel stopped.
enum class StopReason : std::uint8_t {
  kUnmounted,  ///< the namespace was unmounted (ENODEV), or the other side of a socket went away
  kAborted,    ///< the connection was aborted (ECONNABORTED): /sys/fs/fuse/connections/N/abort, or a time-out
  kRequested,  ///< stop() was called
  kFailed,     ///< reading failed in a way that is not understood; logged
};

/// "unmounted", "aborted", "requested", "failed".
const char* to_string(StopReason reason) noexcept;

struct WorkerLimits {
  std::size_t max_threads = 512;        ///< not counting those that are stuck in a share
  std::size_t max_without_request = 8;  ///< threads without a request; a thread beyond that ends
};

/// The threads that read requests and handle them.
///
/// Most requests take a few microseconds, and waking a CPU takes as long or much longer. So as few threads as possible
/// serve, each on the CPU of its callers (README.md has the picture):
/// - A caller that waits does not need its CPU. A worker that has answered looks up the caller's CPU and pins itself to
///   it with SCHED_IDLE (sys::pin_idle), one worker to a CPU. What it reads for callers on another claimed CPU it
///   queues there (CpuQueues).
/// - The monitor is the loop in run(). It looks every millisecond while there is work. When a request waits and no
///   worker takes it, the monitor lets the pinned worker run on any CPU, and wakes a spare worker or starts one.
///
/// - Where requests block (a server far away) all threads serve: each sleeps in read(2). A thread that takes a request
///   and leaves no other thread in read(2) wakes another one at once.
///
/// Threading: run() on one thread, once; stop() on any. Worker threads block all signals but wake_signal(), for which
/// run() installs a handler that does nothing: after stop() it ends reads that wait.
class Workers {
 public:
  /// `session` and `requests` outlive this.
  Workers(Session& session, Requests& requests, const WorkerLimits& limits = {});
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Handles requests until the channel stops, and returns when every worker thread has ended. Errors: EAGAIN when not
  /// even one thread can be started.
  Result<StopReason> run();

  /// Makes run() return soon: requests that are being handled are finished, others are not read any more.
  void stop() noexcept;

  /// The number of worker threads now.
  [[nodiscard]] std::size_t threads() const noexcept { return threads_.load(std::memory_order_relaxed); }

  /// Sent to worker threads alone, to end a read that blocks.
  static int wake_signal() noexcept;

 private:
  static constexpr int kNoCpu = -1;
  struct Worker {
    std::thread thread;
    pid_t id = 0;                      ///< of the thread
    pid_t proc_id = 0;                 ///< the same thread in /proc, which may be of another pid namespace
    std::atomic<bool> reading{false};  ///< blocks in read(2), or is about to
    std::atomic<bool> over{false};     ///< its thread can be joined without a long wait

    // For the monitor.
    std::atomic<std::uint64_t> taken{0};                 ///< requests taken so far
    std::atomic<std::uint64_t> caller_changes{0};        ///< how often the next request was another caller's
    std::atomic<bool> handling{false};                   ///< has a request
    std::atomic<bool> locating{false};                   ///< looks up its caller's CPU
    std::atomic<bool> is_spare{false};                   ///< leaves the requests to others
    std::atomic<RequestSlot*> slot{nullptr};             ///< null before its start
    std::atomic<bool> was_starved{false};                ///< stays unpinned if a caller waits for its next request,
    std::atomic<TimePoint> starved_until{TimePoint{}};   ///< and that until then
    std::atomic<int> pinned_to{kNoCpu};                  ///< the CPU that it has claimed, where its callers run
    std::atomic<TimePoint> unpinned_until{TimePoint{}};  ///< does not pin itself before then

    // Used by its own thread only.
    std::unique_ptr<ReadBuffer> buffer;
    std::optional<QueuedRequest> queued;  ///< to be handled next
    pid_t caller = 0;                     ///< of the last request that a caller waits for
    unsigned same_caller_requests = 0;    ///< requests of that caller in a row
    TimePoint counted{};                  ///< when the two counts below began:
    unsigned requests = 0;                ///< requests that a caller waits for
    unsigned other_cpu_requests = 0;      ///< of these, from callers on another CPU
    bool caller_may_have_moved = false;   ///< the caller's CPU may have changed since the last request
    TimePoint ended{};                    ///< when it finished the last request

    [[nodiscard]] std::optional<unsigned> claimed_cpu() const noexcept {
      const int now = pinned_to.load(std::memory_order_relaxed);
      return now == kNoCpu ? std::nullopt : std::optional(static_cast<unsigned>(now));
    }

    // Used by the monitor only.
    std::uint64_t seen = 0;                          ///< `taken` when the monitor last looked
    std::optional<std::uint64_t> taken_before_read;  ///< `taken` before a read that may bring a resent request
    std::uint64_t seen_caller_changes = 0;           ///< `caller_changes` then
    unsigned starved_rounds = 0;                     ///< how many rounds in a row a caller waited for it
    Duration backoff{};                              ///< how long it was unpinned the last time
  };
  /// What a worker finds while it spins: nothing, a queued request, or a request to read.
  enum class Work : std::uint8_t { kNothing, kQueued, kRequest };

  bool start_worker() noexcept;
  bool wake_spare() noexcept;
  void wake_or_start_worker() noexcept;
  void work(Worker& self) noexcept;
  void serve(Worker& self) noexcept;
  std::optional<protocol::Message> take(Worker& self) noexcept;
  std::optional<protocol::Message> read(Worker& self) noexcept;
  [[nodiscard]] bool is_blocking_mode() const noexcept;
  void enter_blocking_mode() noexcept;
  [[nodiscard]] bool has_request() const noexcept;
  [[nodiscard]] bool may_be_spare() noexcept;
  bool wait_as_spare(Worker& self) noexcept;
  void handle(Worker& self, const protocol::Message& message) noexcept;
  bool enter_lane(Worker& self, const protocol::Message& message, Lane*& lane);
  void drop_abandoned() noexcept;
  bool wait_for_work() noexcept;
  void wake_monitor() noexcept;
  void finish(StopReason reason) noexcept;
  void on_ended(Worker& self) noexcept;
  bool has_ended() noexcept BERTH_REQUIRES(mutex_);
  void join_ended();
  void wake_readers();

  void note_caller(Worker& self, pid_t caller, bool is_waited_for) noexcept;
  void follow_caller(Worker& self) noexcept;
  void locate_caller(Worker& self) noexcept;
  void pin_to(Worker& self, unsigned cpu) noexcept;

  // Several workers, each pinned to the CPU of some callers.
  std::optional<protocol::Message> take_queued(Worker& self) noexcept;
  protocol::Message swap_buffer(Worker& self, QueuedRequest queued) noexcept;
  bool forward(Worker& self, const protocol::Message& message) noexcept;
  void drain_queue(Worker& self) noexcept;
  Work spin_for_work(Worker& self) noexcept;
  void request_worker_on(unsigned cpu) noexcept;
  void pin_where_requested(Worker& self) noexcept;

  // The monitor.
  void monitor() noexcept;
  void pause_if_quiet(bool progressed) noexcept;
  void check_all_resent_read(bool request_waits) noexcept;
  void check_starved(Worker& worker, bool progressed, bool request_waits) noexcept;
  void unpin_starved(Worker& worker, bool owes) noexcept;
  static bool is_blocked(const Worker& worker) noexcept;
  void note_blocked(bool blocked) noexcept;
  void release(Worker& worker) noexcept;
  std::vector<Worker*> all_workers() noexcept;

  // Constant.
  Session& session_;
  Requests& requests_;
  InFlight& in_flight_;
  const Requests::Process process_;
  const WorkerLimits limits_;
  const std::size_t cpu_count_;
  const bool may_pin_idle_;

  // Used by the thread in run() only.
  std::uint64_t seen_ = 0;           ///< requests taken when the monitor last looked
  unsigned quiet_rounds_ = 0;        ///< how many rounds in a row brought nothing new
  bool resend_queue_empty_ = false;  ///< no resent request waits to be read
  unsigned blocking_ = 0;            ///< counts workers seen blocked while a request waited; falls by one each round

  // Synchronised by themselves.
  std::atomic<std::size_t> threads_{0};
  std::atomic<std::size_t> without_request_{0};  ///< threads without a request: in read(2), or spare
  std::atomic<std::size_t> waiting_{0};          ///< threads that block in read(2), or spin before that
  std::atomic<std::uint64_t> taken_{0};          ///< requests taken by all workers
  std::atomic<TimePoint> blocking_mode_until_{TimePoint{}};
  std::atomic<std::size_t> locating_{0};  ///< threads that look up their callers' CPU
  CallerCpus caller_cpus_;
  CpuQueues queues_;
  std::atomic<int> worker_wanted_on_{kNoCpu};  ///< the CPU that the next woken worker is to claim
  std::atomic<bool> monitoring_{true};         ///< false: the monitor sleeps until a request is taken
  std::atomic<bool> all_resent_read_{false};   ///< of the resent requests; the next worker undoes the abandoned ones
  std::atomic<bool> stopping_{false};

  Mutex mutex_;
  ConditionVariable changed_;  ///< a worker ended, stop() was called, or the monitor is needed
  ConditionVariable wake_up_;  ///< a spare worker is to read, or to end
  std::size_t spare_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t wakes_ BERTH_GUARDED_BY(mutex_) = 0;  ///< how many spare workers are to wake
  std::list<std::unique_ptr<Worker>> workers_ BERTH_GUARDED_BY(mutex_);
  std::optional<StopReason> reason_ BERTH_GUARDED_BY(mutex_);  ///< the first one
};

}  // namespace berth::fuse
