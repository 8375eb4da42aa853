#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <thread>

#include "fuse/requests.h"
#include "fuse/session.h"
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
  std::size_t max_spare = 8;      ///< threads that wait for a request; what is more ends
};

/// The threads that read requests and handle them.
///
/// A thread that takes a request and leaves nobody reading starts another one first, so that a request which blocks on a
/// server holds up no other; a thread that comes back and finds enough others reading ends.
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
  void work(Worker& self) noexcept;
  void serve(Worker& self, RequestRecord* record, std::span<char> buffer) noexcept;
  std::optional<std::size_t> read(Worker& self, std::span<char> buffer) noexcept;
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

  // Synchronised by themselves.
  std::atomic<std::size_t> threads_{0};
  std::atomic<std::size_t> reading_{0};
  std::atomic<bool> stopping_{false};

  Mutex mutex_;
  ConditionVariable changed_;  ///< a worker ended, or stop() was called
  std::list<std::unique_ptr<Worker>> workers_ BERTH_GUARDED_BY(mutex_);
  std::optional<StopReason> reason_ BERTH_GUARDED_BY(mutex_);  ///< the first one
};

}  // namespace berth::fuse
