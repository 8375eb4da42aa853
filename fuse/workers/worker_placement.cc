#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "fuse/wire/protocol.h"
#include "fuse/workers/workers.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/scheduling.h"

// Workers: each on the CPU of its callers.
namespace berth::fuse {
namespace {

/// A worker that gets so many requests in so short a time pins itself to its caller's CPU.
constexpr unsigned kManyRequests = 4;
constexpr std::chrono::milliseconds kShortTime{1};
/// A caller on the worker's CPU takes less than this from an answer to its next request, unless it computes. If it took
/// longer, it may be on another CPU: the kernel moves a thread that wakes to an idle CPU.
constexpr std::chrono::microseconds kNextRequest{10};
/// A caller with so many requests in a row is alone.
constexpr unsigned kAlone = 8;
/// So many requests from another CPU within kShortTime are worth a worker there.
constexpr unsigned kManyOnOtherCpu = 8;
/// How long a worker without a request spins for one while other CPUs are claimed.
constexpr std::chrono::microseconds kSpin{30};
/// A worker that spins takes a request that has waited this long for another worker.
constexpr std::chrono::microseconds kLate{20};

/// A caller decides how long a look-up of its CPU lasts: if it executes a program and has a file open of a FUSE server
/// of its own that does not answer the close, the look-up waits. So many threads may be lost to such callers; after
/// that no worker looks.
constexpr std::size_t kMostLocating = 4;

}  // namespace

/// Called when a request of `caller` has been taken.
void Workers::note_caller(Worker& self, pid_t caller, bool is_waited_for) noexcept {
  self.caller_may_have_moved |= std::chrono::steady_clock::now() - self.ended > kNextRequest;
  if (self.was_starved.load(std::memory_order_relaxed) && self.was_starved.exchange(false) && is_waited_for) {
    self.unpinned_until = self.starved_until.load();
  }
  if (!is_waited_for) return;
  ++self.same_caller_requests;
  if (std::exchange(self.caller, caller) != caller) {
    self.same_caller_requests = 1;
    self.caller_changes.fetch_add(1, std::memory_order_relaxed);
  }
  ++self.requests;
}

/// Called after the answer, not before: while a thread is in execve(2), the kernel does not report its CPU
/// (src/lib/sys/other_threads.h), and execve(2) may wait until berth has closed the thread's files. Then this waits,
/// and another worker closes them.
void Workers::follow_caller(Worker& self) noexcept {
  const TimePoint now = self.ended;
  if (caller_cpus_.needs_lookup(self.caller, now, std::exchange(self.caller_may_have_moved, false)))
    locate_caller(self);
  const std::optional<unsigned> cpu = caller_cpus_.cpu_of(self.caller);
  const std::optional<unsigned> own_cpu = self.claimed_cpu();
  const bool is_on_other_cpu = cpu && own_cpu && *cpu != *own_cpu;
  if (is_on_other_cpu) ++self.other_cpu_requests;
  // A lone caller is followed at once.
  if (is_on_other_cpu && self.same_caller_requests >= kAlone) return pin_to(self, *cpu);
  const Duration counted = now - self.counted;
  if (counted < kShortTime && self.other_cpu_requests < kManyOnOtherCpu) return;
  const bool asks_often = self.requests >= kManyRequests && counted < kShortTime * 2;
  const bool many_on_other_cpu = self.other_cpu_requests >= kManyOnOtherCpu && counted < kShortTime * 2;
  self.counted = now;
  self.requests = self.other_cpu_requests = 0;
  if (!cpu || is_blocking_mode() || now < self.unpinned_until.load()) return;
  if (!own_cpu && asks_often) pin_to(self, *cpu);
  if (is_on_other_cpu && many_on_other_cpu) request_worker_on(*cpu);
}

void Workers::locate_caller(Worker& self) noexcept {
  if (locating_.fetch_add(1) < kMostLocating) {
    self.locating.store(true, std::memory_order_relaxed);
    try {
      if (const Result<unsigned> cpu = sys::processor_of(self.caller)) caller_cpus_.note(self.caller, *cpu, self.ended);
    } catch (const std::exception&) {
      // The next request looks again.
    }
    self.locating.store(false, std::memory_order_relaxed);
  }
  locating_.fetch_sub(1);
}

/// Does nothing if another worker has claimed that CPU.
void Workers::pin_to(Worker& self, unsigned cpu) noexcept {
  if (!queues_.claim(cpu)) return;
  int before = self.pinned_to.load();
  const bool moved = sys::pin_idle(self.id, cpu).has_value();
  // The monitor may have unpinned this worker meanwhile.
  const bool stays = self.pinned_to.compare_exchange_strong(before, moved ? static_cast<int>(cpu) : kNoCpu);
  if (stays && before != kNoCpu) queues_.leave(static_cast<unsigned>(before));
  if (!stays) static_cast<void>(sys::unpin(self.id));
  if (!stays || !moved) queues_.leave(cpu);
  // The monitor may have gone to sleep meanwhile: it is needed as long as a worker is pinned.
  if (!monitoring_) wake_monitor();
}

void Workers::request_worker_on(unsigned cpu) noexcept {
  if (queues_.is_claimed(cpu) || worker_wanted_on_ == static_cast<int>(cpu)) return;
  worker_wanted_on_ = static_cast<int>(cpu);
  wake_or_start_worker();
}

void Workers::pin_where_requested(Worker& self) noexcept {
  if (worker_wanted_on_.load(std::memory_order_relaxed) == kNoCpu || self.claimed_cpu()) return;
  const int cpu = worker_wanted_on_.exchange(kNoCpu);
  if (cpu != kNoCpu && std::chrono::steady_clock::now() >= self.unpinned_until.load())
    pin_to(self, static_cast<unsigned>(cpu));
}

/// Puts a request that another worker has read into this worker's buffer, and answers its size in bytes. Empty: there
/// is none.
std::optional<protocol::Message> Workers::take_queued(Worker& self) noexcept {
  std::optional<QueuedRequest> queued = std::exchange(self.queued, std::nullopt);
  if (!queued) queued = queues_.pop(self.claimed_cpu());
  if (!queued) return std::nullopt;
  return swap_buffer(self, *std::move(queued));
}

protocol::Message Workers::swap_buffer(Worker& self, QueuedRequest queued) noexcept {
  queues_.add_buffer(std::exchange(self.buffer, std::move(queued.buffer)));
  return queued.message;
}

/// Queues the request for the worker on the caller's CPU, which wakes the caller there without disturbing another CPU.
/// True: that worker has the request, and this one has another buffer.
bool Workers::forward(Worker& self, const protocol::Message& message) noexcept {
  const std::optional<unsigned> own_cpu = self.claimed_cpu();
  // Which worker read what shows when all that a predecessor left has been read (check_all_resent_read()), so nothing
  // moves before.
  if (!own_cpu || queues_.claimed_count() < 2 || requests_.has_interrupted()) return false;
  if (!protocol::needs_answer(message.header.opcode)) return false;
  const std::optional<unsigned> cpu = caller_cpus_.cpu_of(static_cast<pid_t>(message.header.pid));
  if (!cpu || *cpu == *own_cpu || !queues_.is_claimed(*cpu)) return false;
  std::unique_ptr<ReadBuffer> fresh = queues_.take_buffer();
  if (fresh == nullptr) fresh = ReadBuffer::make(requests_, session_.buffer_size());
  // Not from kept memory into memory that ends with this process, nor the other way.
  if (fresh == nullptr || (fresh->record() == nullptr) != (self.buffer->record() == nullptr)) return false;
  QueuedRequest queued{.buffer = std::move(self.buffer), .message = message, .sent = std::chrono::steady_clock::now()};
  const bool sent = queues_.push(*cpu, queued);
  self.buffer = sent ? std::move(fresh) : std::move(queued.buffer);
  if (!sent) queues_.add_buffer(std::move(fresh));
  return sent;
}

/// For a worker without a request while other CPUs are claimed: mostly the next request comes soon, or it can help
/// another worker.
Workers::Work Workers::spin_for_work(Worker& self) noexcept {
  const std::optional<unsigned> own_cpu = self.claimed_cpu();
  if (!own_cpu || queues_.claimed_count() < 2) return Work::kNothing;
  const TimePoint began = std::chrono::steady_clock::now();
  for (;;) {
    if (queues_.has_queued(*own_cpu)) return Work::kQueued;
    if (has_request()) return Work::kRequest;
    const TimePoint now = std::chrono::steady_clock::now();
    self.queued = queues_.steal_late(now, kLate);
    if (self.queued) return Work::kQueued;
    if (now - began > kSpin && !queues_.has_queued()) return Work::kNothing;
    std::this_thread::yield();
  }
}

/// Handles all that was read, whichever worker ends.
void Workers::drain_queue(Worker& self) noexcept {
  do {
    release(self);
    if (!self.queued) self.queued = queues_.pop(std::nullopt);
    if (self.queued) handle(self, swap_buffer(self, *std::exchange(self.queued, std::nullopt)));
  } while (self.queued || self.claimed_cpu() || queues_.has_orphaned());
}

}  // namespace berth::fuse
