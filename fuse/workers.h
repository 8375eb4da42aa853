#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <thread>

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
/// Threading: run() on one thread, once; stop() on any. Worker threads block all signals but one that run() installs a
/// handler for (kWakeSignal): it ends a read that waits when stop() was called.
class Workers {
 public:
  /// `session` outlives this.
  explicit Workers(Session& session, const WorkerLimits& limits = {}) noexcept : session_(session), limits_(limits) {}
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
  using Threads = std::list<std::thread>;

  bool start_thread();
  void work(Threads::iterator self);
  std::optional<StopReason> serve(std::span<char> buffer);
  bool read_ends(int code, StopReason& reason) const noexcept;
  void finish(StopReason reason) noexcept;
  void join_ended();
  void wake_readers() noexcept;

  // Constant.
  Session& session_;
  const WorkerLimits limits_;

  // Synchronised by themselves.
  std::atomic<std::size_t> threads_{0};
  std::atomic<std::size_t> reading_{0};
  std::atomic<bool> stopping_{false};

  Mutex mutex_;
  ConditionVariable changed_;
  Threads running_ BERTH_GUARDED_BY(mutex_);
  Threads ended_ BERTH_GUARDED_BY(mutex_);  ///< to be joined
  std::optional<StopReason> reason_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
