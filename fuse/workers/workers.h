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
  std::size_t max_threads = 512;        ///< that are not stuck in a share
  std::size_t max_without_request = 8;  ///< threads without a request; what is more ends
};

/// The threads that read requests and handle them.
///
/// Most requests take a few microseconds, and waking a processor takes as long or much longer. So as few threads as possible
/// serve, on the processors where the callers are: a caller who waits has left his processor, and the worker goes on there.
/// Each finds out where who asks is, when it has answered, and goes beside him (sys::pin_idle), one to a processor; what it reads
/// of callers beside another is that one's (CpuQueues). A watch, which is run() itself,
/// looks every millisecond while there is work: when a request waits and nobody takes it, it lets the worker run anywhere, and
/// calls a thread that rests, or starts one.
///
/// Where requests block (a server far away) all serve: each sleeps in read(2), and one that takes a request and leaves nobody
/// there calls another at once.
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

  /// Worker threads there are now.
  [[nodiscard]] std::size_t threads() const noexcept { return threads_.load(std::memory_order_relaxed); }

  /// Sent to worker threads alone, to end a read that waits.
  static int wake_signal() noexcept;

 private:
  static constexpr int kNoCpu = -1;
  struct Worker {
    std::thread thread;
    pid_t id = 0;                      ///< of the thread
    pid_t proc_id = 0;                 ///< the same in /proc, which may be of another pid namespace
    std::atomic<bool> reading{false};  ///< waits for a request, or is about to
    std::atomic<bool> over{false};     ///< can be joined without waiting long

    // For the watch.
    std::atomic<std::uint64_t> taken{0};           ///< requests
    std::atomic<std::uint64_t> caller_changes{0};  ///< how often another caller's request came next
    std::atomic<bool> handling{false};             ///< has a request
    std::atomic<bool> locating{false};             ///< looks where its caller is
    std::atomic<bool> parked{false};               ///< leaves the requests to others
    std::atomic<InFlight::Slot*> slot{nullptr};    ///< null before its start
    std::atomic<bool> was_starved{
        false};  ///< somebody may have waited for it to take the next request: then it keeps away,
    std::atomic<TimePoint> starved_until{TimePoint{}};  ///< until then
    std::atomic<int> pinned_to{kNoCpu};  ///< the processor where it runs beside its callers, and has the post
    std::atomic<TimePoint> unpinned_until{TimePoint{}};  ///< keeps away from its callers' until then

    // Its own.
    std::unique_ptr<ReadBuffer> buffer;
    std::optional<QueuedRequest> queued;  ///< to be handled next
    pid_t caller = 0;                     ///< of the last request that somebody waited for
    unsigned same_caller_requests = 0;    ///< such requests of his before that
    TimePoint counted{};                  ///< from when on these are counted:
    unsigned requests = 0;                ///< those that somebody waited for
    unsigned other_cpu_requests = 0;      ///< those of callers on another processor
    bool caller_may_have_moved = false;   ///< the caller may have gone since the last request
    TimePoint ended{};                    ///< when it was done with the last request

    [[nodiscard]] std::optional<unsigned> claimed_cpu() const noexcept {
      const int now = pinned_to.load(std::memory_order_relaxed);
      return now == kNoCpu ? std::nullopt : std::optional(static_cast<unsigned>(now));
    }

    // Of the watch.
    std::uint64_t seen = 0;  ///< requests taken when the watch last looked
    std::optional<std::uint64_t>
        taken_before_read;                  ///< requests taken before a read that may bring what was sent again
    std::uint64_t seen_caller_changes = 0;  ///< turns then
    unsigned starved_rounds = 0;            ///< how often in a row it has seen somebody wait for it
    Duration backoff{};                     ///< how long it was to keep away the last time
  };
  /// What a worker sees that looks around: nothing, what others have read for it, or a request to read.
  enum class Work : std::uint8_t { kNothing, kQueued, kRequest };

  bool start_worker() noexcept;
  bool wake_parked() noexcept;
  void wake_or_start_worker() noexcept;
  void work(Worker& self) noexcept;
  void serve(Worker& self) noexcept;
  std::optional<std::size_t> take(Worker& self) noexcept;
  std::optional<std::size_t> read(Worker& self) noexcept;
  [[nodiscard]] bool is_blocking_mode() const noexcept;
  void enter_blocking_mode() noexcept;
  [[nodiscard]] bool has_request() const noexcept;
  [[nodiscard]] bool may_park() noexcept;
  bool park(Worker& self) noexcept;
  void handle(Worker& self, std::size_t size) noexcept;
  bool enter_lane(Worker& self, const fuse_in_header& header, std::span<const char> message, Lane*& lane);
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
  void pin_to(Worker& self, unsigned processor) noexcept;

  // Several workers, each beside some of the callers.
  std::optional<std::size_t> take_queued(Worker& self) noexcept;
  std::size_t adopt_buffer(Worker& self, QueuedRequest queued) noexcept;
  bool forward(Worker& self, std::size_t size) noexcept;
  void drain_queue(Worker& self) noexcept;
  Work spin_for_work(Worker& self) noexcept;
  void request_worker_on(unsigned processor) noexcept;
  void pin_where_requested(Worker& self) noexcept;

  // The watch.
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

  // Of the thread in run().
  std::uint64_t seen_ = 0;           ///< requests taken when the watch last looked
  unsigned quiet_rounds_ = 0;        ///< how often in a row it has seen nothing new
  bool resend_queue_empty_ = false;  ///< no request that was sent again waits to be read
  unsigned blocking_ = 0;            ///< how much of late requests have blocked while others waited

  // Synchronised by themselves.
  std::atomic<std::size_t> threads_{0};
  std::atomic<std::size_t> without_request_{0};  ///< threads without a request: they wait in read(2), or rest
  std::atomic<std::size_t> waiting_{0};          ///< threads that wait in read(2), or look around before that
  std::atomic<std::uint64_t> taken_{0};          ///< requests, ever
  std::atomic<TimePoint> blocking_mode_until_{TimePoint{}};
  std::atomic<std::size_t> locating_{0};  ///< threads that look where their callers are
  CallerCpus caller_cpus_;
  CpuQueues queues_;
  std::atomic<int> worker_wanted_on_{kNoCpu};  ///< where the next worker that is called is to go
  std::atomic<bool> monitoring_{true};         ///< false: the watch sleeps until a request is taken
  std::atomic<bool> all_resent_read_{false};   ///< what was sent again; the next worker takes back what nobody came for
  std::atomic<bool> stopping_{false};

  Mutex mutex_;
  ConditionVariable changed_;  ///< a worker ended, stop() was called, or the watch is needed
  ConditionVariable wake_up_;  ///< who rests is to wait in read(2), or to end
  std::size_t parked_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t wakes_ BERTH_GUARDED_BY(mutex_) = 0;  ///< of those who rest, how many are called
  std::list<std::unique_ptr<Worker>> workers_ BERTH_GUARDED_BY(mutex_);
  std::optional<StopReason> reason_ BERTH_GUARDED_BY(mutex_);  ///< the first one
};

}  // namespace berth::fuse
