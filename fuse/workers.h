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

#include "fuse/requests.h"
#include "fuse/session.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"

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
  std::size_t max_threads = 512;  ///< requests handled at once; operations may block on a server, so this is generous
  std::size_t max_spare = 8;      ///< threads without a request; what is more ends
  std::chrono::microseconds spin{20};  ///< looking for the next request; nobody looks where there is one processor
};

/// The threads that read requests and handle them.
///
/// Most requests take a few microseconds, and waking a thread takes as long. So as few threads as possible serve: who has
/// answered looks for the next request a moment longer, and then sleeps in read(2), or rests when somebody else waits
/// there. (While somebody sleeps in read(2) nobody looks, or the kernel would wake that one for nothing.) A watch, which is
/// run() itself, looks after them every millisecond while there is work: when a request waits and nobody takes it, it calls a
/// thread that rests, or starts one.
///
/// Where requests block (a server far away), or other programs want the processors, all serve: each sleeps in read(2), and
/// one that takes a request and leaves nobody there calls another at once.
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
  struct Worker {
    std::thread thread;
    std::atomic<bool> reading{false};  ///< waits for a request, or is about to
    std::atomic<bool> ended{false};    ///< can be joined without waiting long
  };

  bool start_worker() noexcept;
  bool call_resting() noexcept;
  void call_another() noexcept;
  void work(Worker& self) noexcept;
  void serve(Worker& self, RequestRecord* record, std::span<char> buffer) noexcept;
  std::optional<std::size_t> take(Worker& self, std::span<char> buffer) noexcept;
  std::optional<std::size_t> read(Worker& self, std::span<char> buffer) noexcept;
  [[nodiscard]] bool do_all_serve() const noexcept;
  void let_all_serve() noexcept;
  [[nodiscard]] bool has_request() const noexcept;
  [[nodiscard]] bool comes_soon() noexcept;
  [[nodiscard]] bool may_rest() noexcept;
  bool rest() noexcept;
  void handle(RequestRecord* record, std::span<char> message) noexcept;
  void wake_watch() noexcept;
  void watch() noexcept;
  void finish(StopReason reason) noexcept;
  void on_ended(Worker& self) noexcept;
  bool has_ended() noexcept BERTH_REQUIRES(mutex_);
  void join_ended();
  void wake_readers();

  // Constant.
  Session& session_;
  Requests& requests_;
  const Requests::Process process_;
  const WorkerLimits limits_;
  const std::size_t processors_;

  // Of the thread in run().
  std::uint64_t seen_ = 0;      ///< requests taken when the watch last looked
  unsigned quiet_watches_ = 0;  ///< how often in a row it has seen nothing new

  // Synchronised by themselves.
  std::atomic<std::size_t> threads_{0};
  std::atomic<std::size_t> spare_{0};    ///< threads without a request: they wait at the device, or rest
  std::atomic<std::size_t> waiting_{0};  ///< threads that wait at the device
  std::atomic<std::uint64_t> taken_{0};  ///< requests, ever
  std::atomic<TimePoint> all_serve_until_{TimePoint{}};
  std::atomic<bool> watching_{true};  ///< false: the watch sleeps until a request is taken
  std::atomic<bool> stopping_{false};

  Mutex mutex_;
  ConditionVariable changed_;  ///< a worker ended, stop() was called, or the watch is needed
  ConditionVariable called_;   ///< who rests is to wait at the device, or to end
  std::size_t resting_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t calls_ BERTH_GUARDED_BY(mutex_) = 0;  ///< of those who rest, how many are called
  std::list<std::unique_ptr<Worker>> workers_ BERTH_GUARDED_BY(mutex_);
  std::optional<StopReason> reason_ BERTH_GUARDED_BY(mutex_);  ///< the first one
};

}  // namespace berth::fuse
