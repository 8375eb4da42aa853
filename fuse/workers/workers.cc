#include "fuse/workers/workers.h"

#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "fuse/session/outer_ids.h"
#include "fuse/session/this_request.h"
#include "fuse/wire/protocol.h"
#include "src/lib/base/error.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/scheduling.h"
#include "src/lib/sys/thread.h"

namespace berth::fuse {

namespace {

/// How often readers are woken after stop(): the signal misses a thread that was about to read, and the next one
/// catches it.
constexpr std::chrono::milliseconds kWakeAgain{5};
/// While no more threads than this have a request, no share needs care.
constexpr std::size_t kFewBusy = 8;
/// The monitor's period while there is work.
constexpr std::chrono::milliseconds kMonitorPeriod{1};
/// How often stuck and waiting requests are checked when there is no other work.
constexpr std::chrono::milliseconds kCare{25};
/// How long blocking mode lasts (all threads serve) after requests were seen to block.
constexpr std::chrono::milliseconds kBlockingMode{500};

void install_wake_handler() noexcept {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  // Without SA_RESTART: a read that blocks ends with EINTR.
  ::sigaction(Workers::wake_signal(), &action, nullptr);
}

void unblock_wake_signal() noexcept {
  sigset_t wake;
  ::sigemptyset(&wake);
  ::sigaddset(&wake, Workers::wake_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &wake, nullptr);
}

}  // namespace

const char* to_string(StopReason reason) noexcept {
  switch (reason) {
    case StopReason::kUnmounted:
      return "unmounted";
    case StopReason::kAborted:
      return "aborted";
    case StopReason::kRequested:
      return "requested";
    case StopReason::kFailed:
      return "failed";
  }
  return "?";
}

int Workers::wake_signal() noexcept { return SIGRTMIN + 1; }

Workers::Workers(Session& session, Requests& requests, const WorkerLimits& limits)
    : session_(session),
      requests_(requests),
      in_flight_(session.in_flight()),
      process_([&session](const protocol::Message& message) { session.process(message); }),
      limits_(limits),
      cpu_count_(std::max(1U, std::thread::hardware_concurrency())),
      may_pin_idle_(sys::may_pin_idle()),
      queues_(may_pin_idle_ ? sys::processor_numbers() : 0) {
  in_flight_.serve(
      [this](RequestRecord* record, const protocol::Message& message) { requests_.handle(record, message, process_); },
      [this] {
        if (!monitoring_) wake_monitor();
      },
      [this](std::uint64_t unique) { requests_.note_parked(unique); });
}

Workers::~Workers() = default;

Result<StopReason> Workers::run() {
  install_wake_handler();
  if (!start_worker()) return fail(EAGAIN, "cannot start a thread to serve the namespace");
  while (threads_.load(std::memory_order_acquire) > 0) {
    const bool monitors = wait_for_work();
    join_ended();
    if (stopping_) {
      wake_readers();
    } else if (monitors) {
      monitor();
    }
    in_flight_.care(std::chrono::steady_clock::now());
  }
  join_ended();
  MutexLock lock(mutex_);
  return reason_.value_or(stopping_ ? StopReason::kRequested : StopReason::kFailed);
}

/// Sleeps until the next round is due. True: the monitor has to look.
bool Workers::wait_for_work() noexcept {
  MutexLock lock(mutex_);
  while (!has_ended() && !stopping_ && !monitoring_ && !in_flight_.needs_care()) changed_.wait(mutex_);
  const bool monitors = monitoring_;
  const std::chrono::milliseconds pause = stopping_ ? kWakeAgain : monitors ? kMonitorPeriod : kCare;
  if (!has_ended()) changed_.wait_until(mutex_, std::chrono::steady_clock::now() + pause);
  return monitors;
}

void Workers::stop() noexcept {
  stopping_ = true;
  MutexLock lock(mutex_);
  changed_.notify_all();
  wake_up_.notify_all();
}

bool Workers::start_worker() noexcept {
  std::size_t before = threads_.load(std::memory_order_relaxed);
  do {
    if (before >= limits_.max_threads + in_flight_.stuck_threads()) return false;
  } while (!threads_.compare_exchange_weak(before, before + 1));
  try {
    std::list<std::unique_ptr<Worker>> started;
    started.push_back(std::make_unique<Worker>());
    Worker& self = *started.front();
    self.thread = sys::start_thread("berth-fuse", [this, &self] { work(self); }).value();
    MutexLock lock(mutex_);
    workers_.splice(workers_.end(), started);
    changed_.notify_all();
    return true;
  } catch (const std::exception&) {
    threads_.fetch_sub(1);
    return false;
  }
}

void Workers::work(Worker& self) noexcept {
  unblock_wake_signal();
  self.id = ::gettid();
  self.proc_id = sys::own_id_in_proc();
  const this_request::Thread thread(in_flight_.slots());
  self.slot = &thread.slot();
  serve(self);
  drain_queue(self);
  on_ended(self);
}

void Workers::serve(Worker& self) noexcept {
  self.buffer = ReadBuffer::make(requests_, session_.buffer_size());
  while (self.buffer != nullptr && !stopping_.load(std::memory_order_relaxed)) {
    if (without_request_.fetch_add(1) >= limits_.max_without_request && waiting_ != 0) {
      // Enough other workers serve.
      without_request_.fetch_sub(1);
      return;
    }
    const std::optional<protocol::Message> message = take(self);
    without_request_.fetch_sub(1);
    if (!message) return;
    handle(self, *message);
  }
}

/// Puts the next request into the worker's buffer and answers its size, in bytes. Empty: the worker is to end.
std::optional<protocol::Message> Workers::take(Worker& self) noexcept {
  for (;;) {
    pin_where_requested(self);
    if (const std::optional<protocol::Message> message = take_queued(self)) return message;
    waiting_.fetch_add(1);
    const bool blocking_mode = is_blocking_mode();
    const Work found = blocking_mode ? Work::kNothing : spin_for_work(self);
    if (found == Work::kQueued) {
      waiting_.fetch_sub(1);
      continue;
    }
    if (found == Work::kNothing && !blocking_mode && may_be_spare()) {
      if (!wait_as_spare(self)) return std::nullopt;
      continue;
    }
    const std::optional<unsigned> sleeps_at = found == Work::kRequest ? std::nullopt : self.claimed_cpu();
    if (sleeps_at && !queues_.try_sleep(*sleeps_at)) {
      waiting_.fetch_sub(1);
      continue;
    }
    const std::optional<protocol::Message> message = read(self);
    if (sleeps_at) queues_.wake(*sleeps_at);
    const bool was_last = waiting_.fetch_sub(1) == 1;
    if (!message) return std::nullopt;
    taken_.fetch_add(1);
    if (!monitoring_) wake_monitor();
    if (was_last && blocking_mode) wake_or_start_worker();
    if (!forward(self, *message)) return message;
  }
}

void Workers::handle(Worker& self, const protocol::Message& message) noexcept {
  const fuse_in_header& header = message.header;
  const bool is_waited_for = protocol::needs_answer(header.opcode);
  RequestSlot& slot = *self.slot.load(std::memory_order_relaxed);
  Lane* lane = nullptr;
  self.handling.store(true, std::memory_order_relaxed);
  slot.answered.store(!is_waited_for, std::memory_order_relaxed);
  self.taken.fetch_add(1, std::memory_order_release);
  if (may_pin_idle_) note_caller(self, static_cast<pid_t>(header.pid), is_waited_for);
  if (enter_lane(self, message, lane)) {
    RequestRecord* const record = self.buffer->record();
    slot.begin(message, record, lane);
    requests_.handle(record, message, process_);
    if (in_flight_.end(slot)) [[unlikely]]
      in_flight_.serve_waiting(slot, record);
  }
  slot.answered.store(true, std::memory_order_relaxed);
  if (all_resent_read_.load(std::memory_order_relaxed)) [[unlikely]]
    drop_abandoned();
  self.ended = std::chrono::steady_clock::now();
  if (may_pin_idle_ && is_waited_for) follow_caller(self);
  self.handling.store(false, std::memory_order_relaxed);
}

/// Whether the request may run now. False: it waits for its turn, or was refused. While few threads have a request and
/// none is stuck, every request may.
bool Workers::enter_lane(Worker& self, const protocol::Message& message, Lane*& lane) {
  const std::size_t busy =
      threads_.load(std::memory_order_relaxed) - std::min(threads_.load(), without_request_.load());
  if (busy <= kFewBusy && !in_flight_.is_troubled()) return true;
  try {
    lane = in_flight_.lane_of(message.header.nodeid, message.header.opcode);
    return lane == nullptr || in_flight_.enter(*self.slot.load(), *lane, message) == Lane::Entry::kInside;
  } catch (const std::exception&) {
    session_.answer(message.header.unique, ENOMEM, {});
    return false;
  }
}

void Workers::drop_abandoned() noexcept {
  if (!all_resent_read_.exchange(false)) return;
  try {
    requests_.drop_abandoned();
  } catch (const std::exception&) {
    // A successor does it.
  }
}

bool Workers::is_blocking_mode() const noexcept {
  return std::chrono::steady_clock::now() < blocking_mode_until_.load(std::memory_order_relaxed);
}

void Workers::enter_blocking_mode() noexcept {
  blocking_mode_until_.store(std::chrono::steady_clock::now() + kBlockingMode, std::memory_order_relaxed);
}

bool Workers::has_request() const noexcept {
  pollfd readable{.fd = session_.device(), .events = POLLIN, .revents = 0};
  return ::poll(&readable, 1, 0) != 0;
}

/// True: other workers block in read(2), and the device can be left to them.
bool Workers::may_be_spare() noexcept {
  std::size_t waiting = waiting_.load();
  while (waiting > 1) {
    if (waiting_.compare_exchange_weak(waiting, waiting - 1)) return true;
  }
  return false;
}

/// Sleeps until woken. False: the worker is to end.
bool Workers::wait_as_spare(Worker& self) noexcept {
  release(self);
  MutexLock lock(mutex_);
  ++spare_;
  self.is_spare = true;
  while (wakes_ == 0 && !stopping_ && !reason_) wake_up_.wait(mutex_);
  self.is_spare = false;
  --spare_;
  if (wakes_ == 0) return false;
  --wakes_;
  return true;
}

bool Workers::wake_spare() noexcept {
  MutexLock lock(mutex_);
  if (spare_ <= wakes_) return false;
  ++wakes_;
  wake_up_.notify_one();
  return true;
}

void Workers::wake_or_start_worker() noexcept {
  if (!wake_spare()) start_worker();
}

std::optional<protocol::Message> Workers::read(Worker& self) noexcept {
  self.buffer->make_ready();
  const std::span<char> buffer = self.buffer->bytes();
  for (;;) {
    self.reading.store(true);
    const bool asked_to_stop = stopping_.load();
    const ssize_t size = asked_to_stop ? 0 : ::read(session_.device(), buffer.data(), buffer.size());
    const int code = errno;
    self.reading.store(false);
    if (asked_to_stop) return std::nullopt;
    if (size > 0) {
      make_inner(buffer.first(static_cast<std::size_t>(size)));
      return protocol::Message(buffer.first(static_cast<std::size_t>(size)));
    }
    if (size == 0 || code == ENODEV) {
      finish(StopReason::kUnmounted);
      return std::nullopt;
    }
    // ENOENT: an interrupt took the request back while it was read (fuse(4)).
    if (code == EINTR || code == ENOENT) continue;
    if (code == EAGAIN) {
      pollfd readable{.fd = session_.device(), .events = POLLIN, .revents = 0};
      ::poll(&readable, 1, -1);
      continue;
    }
    if (code != ECONNABORTED) log::error("cannot read from the FUSE device: {}", errno_text(code));
    finish(code == ECONNABORTED ? StopReason::kAborted : StopReason::kFailed);
    return std::nullopt;
  }
}

void Workers::finish(StopReason reason) noexcept {
  MutexLock lock(mutex_);
  if (!reason_) reason_ = reason;
  wake_up_.notify_all();
}

void Workers::on_ended(Worker& self) noexcept {
  MutexLock lock(mutex_);
  self.over = true;
  threads_.fetch_sub(1, std::memory_order_release);
  changed_.notify_all();
}

bool Workers::has_ended() noexcept {
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->over.load(); });
}

void Workers::join_ended() {
  std::list<std::unique_ptr<Worker>> ended;
  {
    MutexLock lock(mutex_);
    for (auto at = workers_.begin(); at != workers_.end();) {
      const auto next = std::next(at);
      if ((*at)->over) ended.splice(ended.end(), workers_, at);
      at = next;
    }
  }
  for (const auto& worker : ended) worker->thread.join();
}

void Workers::wake_readers() {
  // Only this thread joins workers, so one that has ended meanwhile is still there.
  for (Worker* const worker : all_workers()) {
    release(*worker);
    // Readers only: in a worker with a request the signal would end a system call of that request.
    if (worker->reading) ::pthread_kill(worker->thread.native_handle(), wake_signal());
  }
}

}  // namespace berth::fuse
