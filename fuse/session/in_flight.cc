#include "fuse/session/in_flight.h"

#include <linux/fuse.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "fuse/wire/protocol.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/thread.h"

namespace berth::fuse {
namespace {

/// A thread that has been in one request of a share for so long is stuck, until it comes back.
constexpr std::chrono::milliseconds kStuck{20};
/// When a caller gets a signal, a share may take so long to answer before the request is answered EINTR: programs do
/// not expect EINTR of files.
constexpr std::chrono::milliseconds kInterruptPatience{100};
/// An interrupted request that is not stuck in a share by then has been answered.
constexpr std::chrono::seconds kInterruptKept{2};
constexpr std::size_t kMostInterrupts = 16384;
/// After so long the kernel sends the interrupt of a caller again that is only to stop.
constexpr std::chrono::milliseconds kRepeat{20};
/// How many it sends again in that time: each costs a look at the caller.
constexpr std::size_t kMostRepeats = 32;
/// In the number of a request: that of its interrupt (FUSE_INT_REQ_BIT, fs/fuse/dev.c).
constexpr std::uint64_t kOfInterrupt = 1;
/// How often care() checks whether a caller that no INTERRUPT tells of is ending (has_ended()).
constexpr std::chrono::milliseconds kExitLook{100};
/// At how many of a lane's, and about at how many of all stuck threads' it looks each time: a user may have a thousand.
constexpr std::size_t kExitLooks = 32;

/// Whether the caller is ending, where the kernel sends no INTERRUPT that says so:
/// - A program that ends waits in the FLUSH of each of its files.
/// - No thread waits for the READ of a read-ahead as such, but its pages are locked until it is answered, and a
///   write(2) to one of them cannot be killed. If it is answered with an error, the next reader asks again.
bool has_ended(std::uint32_t opcode, bool reads_pages, pid_t caller) {
  if (opcode == FUSE_FLUSH) return sys::has_no_memory(caller);
  return opcode == FUSE_READ && reads_pages && sys::is_killed(caller);
}

int error_of_ended(std::uint32_t opcode) noexcept { return opcode == FUSE_FLUSH ? 0 : EINTR; }

/// The most threads that may be stuck. The more are stuck, the fewer one share may hold.
constexpr std::size_t kManyStuck = 1024;

/// The number of a request in its record: without the bit of a resent request.
constexpr std::uint64_t noted_number(std::uint64_t unique) noexcept { return unique & ~protocol::kUniqueResend; }

Lane::Waiting waiting_of(const protocol::Message& message, TimePoint now) {
  const fuse_in_header& header = message.header;
  Lane::Waiting waiting;
  waiting.unique = header.unique;
  waiting.node = header.nodeid;
  waiting.target = protocol::target_of_copy(message);
  waiting.opcode = header.opcode;
  waiting.uid = header.uid;
  waiting.pid = static_cast<pid_t>(header.pid);
  waiting.since = now;
  waiting.written_back = protocol::size_written_back(message);
  waiting.reads_pages = protocol::reads_pages(message);
  // The kernel takes a refusal for an error of the disk, and drops the pages.
  waiting.must_be_done = protocol::must_be_done(header.opcode) || waiting.written_back != 0;
  waiting.message.assign(message.bytes.begin(), message.bytes.end());
  return waiting;
}

std::string_view bytes_of(const fuse_write_out& answer) {
  return {reinterpret_cast<const char*>(&answer), sizeof answer};
}

std::deque<Lane::Waiting> one(Lane::Waiting waiting) {
  std::deque<Lane::Waiting> alone;
  alone.push_back(std::move(waiting));
  return alone;
}

}  // namespace

thread_local constinit InFlight::Slot* InFlight::current_ = nullptr;

InFlight::InFlight(Setup setup) : setup_(std::move(setup)) {}

InFlight::~InFlight() {
  MutexLock lock(mutex_);
  while (apart_ != 0) apart_ended_.wait(mutex_);
}

void InFlight::serve(Handle handle, std::function<void()> wake, std::function<void(std::uint64_t)> note_waiting) {
  handle_ = std::move(handle);
  wake_ = std::move(wake);
  note_waiting_ = std::move(note_waiting);
}

InFlight::Slot& InFlight::acquire() {
  MutexLock lock(mutex_);
  for (const auto& slot : slots_) {
    if (slot->free.exchange(false, std::memory_order_acquire)) return *slot;
  }
  slots_.push_back(std::make_unique<Slot>());
  return *slots_.back();
}

std::vector<InFlight::Slot*> InFlight::slots() const {
  std::vector<Slot*> all;
  MutexLock lock(mutex_);
  all.reserve(slots_.size());
  for (const auto& slot : slots_) {
    if (!slot->free.load(std::memory_order_relaxed)) all.push_back(slot.get());
  }
  return all;
}

std::uint64_t InFlight::handled() const {
  MutexLock lock(mutex_);
  std::uint64_t all = 0;
  for (const std::unique_ptr<Slot>& slot : slots_) all += slot->serial.load(std::memory_order_relaxed) / 2;
  return all;
}

std::size_t InFlight::most_inside() const noexcept {
  const std::size_t left = kManyStuck - std::min(kManyStuck, stuck_threads());
  return std::clamp(left / 8, Lane::kFewStuck, Lane::kMostInside);
}

void InFlight::begin(Slot& slot, const fuse_in_header& header, RequestRecord* record, Lane* lane,
                     std::uint64_t word) noexcept {
  slot.node.store(header.nodeid, std::memory_order_relaxed);
  slot.opcode.store(header.opcode, std::memory_order_relaxed);
  slot.pid.store(static_cast<pid_t>(header.pid), std::memory_order_relaxed);
  slot.uid.store(header.uid, std::memory_order_relaxed);
  slot.record.store(record, std::memory_order_relaxed);
  slot.lane.store(lane, std::memory_order_relaxed);
  if (slot.changes.load(std::memory_order_relaxed)) slot.changes.store(false, std::memory_order_relaxed);
  if (slot.written_back.load(std::memory_order_relaxed) != 0) slot.written_back.store(0, std::memory_order_relaxed);
  slot.serial.store(slot.serial.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  // An INTERRUPT has no answer of its own, and its number is that of the request with the bit of a claim.
  slot.word.store(header.opcode == FUSE_INTERRUPT ? 0 : word, std::memory_order_release);
}

bool InFlight::may_answer(std::uint64_t unique) noexcept {
  if (current_ == nullptr) return true;
  // Before it is sent: the caller that gets the answer may take the processor from this thread right then.
  current_->answered.store(true, std::memory_order_relaxed);
  std::uint64_t mine = unique;
  return current_->word.compare_exchange_strong(mine, 0) || mine != (unique | kClaimed);
}

bool InFlight::hand_on() noexcept {
  if (current_ == nullptr) return true;
  std::uint64_t mine = current_->word.load(std::memory_order_relaxed);
  if ((mine & kClaimed) != 0) return false;
  return mine == 0 || current_->word.compare_exchange_strong(mine, 0);
}

void InFlight::set_known(int error, std::string body) {
  if (current_ == nullptr) return;
  MutexLock lock(current_->mutex);
  current_->known_for = current_->word.load(std::memory_order_relaxed);
  current_->known_error = error;
  current_->known.swap(body);
}

bool InFlight::claim(Slot& slot, std::uint64_t unique) noexcept {
  if (!slot.word.compare_exchange_strong(unique, unique | kClaimed)) return false;
  // If the server dies now, the kernel does not know what the thread has done for the request so far.
  if (RequestRecord* const record = slot.record.load(std::memory_order_relaxed)) {
    std::uint64_t noted = noted_number(unique);
    record->unique.compare_exchange_strong(noted, noted | RequestRecord::kGivenUp);
  }
  return true;
}

Lane::Entry InFlight::enter(Slot& slot, Lane& lane, const protocol::Message& message) {
  const TimePoint now = std::chrono::steady_clock::now();
  Lane::Waiting waiting = waiting_of(message, now);
  const std::uint64_t unique = waiting.unique;
  Lane::Epoch epoch = 0;
  troubles_.fetch_add(1, std::memory_order_relaxed);  // before any thread may take it out again
  const Lane::Entry entry = lane.enter(now, most_inside(), epoch, waiting);
  slot.entered_in.store(epoch, std::memory_order_relaxed);
  if (entry == Lane::Entry::kWaits) {
    note_waiting(lane, unique);
  } else {
    stopped_waiting();
  }
  if (entry == Lane::Entry::kRefused) setup_.answer(unique, EAGAIN, {});
  // At once, for such a program may have thousands of open files, which it closes one after the other.
  if (entry == Lane::Entry::kWaits && message.header.opcode == FUSE_FLUSH) {
    if (const std::optional<Lane::Caller> caller = lane.caller_of(unique)) answer_ended(lane, *caller);
  }
  return entry;
}

bool InFlight::try_enter(Lane& lane) {
  if (current_ == nullptr || current_->lane.load(std::memory_order_relaxed) != nullptr) return true;
  Lane::Epoch epoch = 0;
  if (!lane.try_enter(most_inside(), epoch)) return false;
  current_->entered_in.store(epoch, std::memory_order_relaxed);
  current_->lane.store(&lane, std::memory_order_relaxed);
  return true;
}

void InFlight::note_waiting(Lane& lane, std::uint64_t unique) {
  if (note_waiting_) note_waiting_(unique);
  {
    MutexLock lock(mutex_);
    if (std::find(lanes_.begin(), lanes_.end(), &lane) == lanes_.end()) lanes_.push_back(&lane);
  }
  if (wake_) wake_();
}

void InFlight::go_on(Lane& lane, Lane::Waiting waiting) {
  const Thread thread(*this);
  const TimePoint now = std::chrono::steady_clock::now();
  waiting.since = now;
  const std::uint64_t unique = waiting.unique;
  Lane::Epoch epoch = 0;
  troubles_.fetch_add(1, std::memory_order_relaxed);
  switch (lane.enter(now, most_inside(), epoch, waiting)) {
    case Lane::Entry::kWaits:
      return note_waiting(lane, unique);
    case Lane::Entry::kRefused:
      stopped_waiting();
      return waiting.work(EAGAIN);
    case Lane::Entry::kInside:
      stopped_waiting();
      if (wake_) wake_();
      handle(thread.slot(), lane, epoch, std::move(waiting), nullptr);
      return serve_waiting(thread.slot(), nullptr);
  }
}

/// One request of a lane that the thread is in.
void InFlight::handle(Slot& slot, Lane& lane, Lane::Epoch epoch, Lane::Waiting waiting, RequestRecord* record) {
  fuse_in_header header{};
  header.unique = waiting.unique;
  header.nodeid = waiting.node;
  header.opcode = waiting.opcode;
  header.uid = waiting.uid;
  header.pid = static_cast<std::uint32_t>(waiting.pid);
  slot.entered_in.store(epoch, std::memory_order_relaxed);
  slot.reads_pages.store(waiting.reads_pages, std::memory_order_relaxed);
  begin(slot, header, record, &lane, waiting.unique | (waiting.answered ? kClaimed : 0));
  if (waiting.written_back != 0) {
    begin_write_back(slot, protocol::Message(waiting.message));
    MutexLock lock(slot.mutex);
    slot.kept = waiting.kept;
  }
  if (waiting.changes) slot.changes.store(true, std::memory_order_relaxed);
  if (waiting.message.empty()) {
    waiting.work(0);
  } else {
    handle_(record, protocol::Message(waiting.message));
  }
  end(slot);
}

void InFlight::serve_waiting(Slot& slot, RequestRecord* record) {
  for (;;) {
    const TimePoint now = std::chrono::steady_clock::now();
    Lane* const stuck = slot.stuck.exchange(nullptr);
    Lane* lane = slot.lane.exchange(nullptr, std::memory_order_relaxed);
    Lane::Epoch epoch = slot.entered_in.load(std::memory_order_relaxed);
    if (stuck != nullptr && come_back(slot, *stuck)) {
      const Lane::Epoch stuck_in = slot.stuck_in.load(std::memory_order_relaxed);
      if (lane != nullptr) leave(*stuck, stuck_in, now);
      if (lane == nullptr) epoch = stuck_in;
      if (lane == nullptr) lane = stuck;
    }
    if (lane == nullptr) return;
    std::optional<Lane::Waiting> next = lane->leave(now, epoch);
    if (!next) return;
    stopped_waiting();
    handle(slot, *lane, epoch, *std::move(next), record);
  }
}

/// Call it after taking `lane` out of the slot in which the thread is stuck. Whether the lane is to be left.
bool InFlight::come_back(Slot& slot, Lane& lane) {
  stuck_.fetch_sub(1, std::memory_order_relaxed);
  stopped_waiting();
  lane.come_back(slot.stuck_in.load(std::memory_order_relaxed));
  return slot.stuck_outside.load(std::memory_order_relaxed);
}

void InFlight::leave(Lane& lane, Lane::Epoch epoch, TimePoint now) {
  std::optional<Lane::Waiting> next = lane.leave(now, epoch);
  if (!next) return;
  stopped_waiting();
  handle_apart(lane, epoch, one(*std::move(next)));
}

/// On a thread of its own, one request after the other.
void InFlight::handle_apart(Lane& lane, Lane::Epoch epoch, std::deque<Lane::Waiting> all) {
  if (all.empty()) return;
  {
    MutexLock lock(mutex_);
    ++apart_;
  }
  auto work = [this, &lane, epoch, shared = std::make_shared<std::deque<Lane::Waiting>>(std::move(all))] {
    {
      const Thread thread(*this);
      for (Lane::Waiting& waiting : *shared) {
        handle(thread.slot(), lane, epoch, std::move(waiting), nullptr);
        serve_waiting(thread.slot(), nullptr);
      }
    }
    MutexLock lock(mutex_);
    --apart_;
    apart_ended_.notify_all();
  };
  if (Result<std::thread> thread = sys::start_thread("berth-lane", work)) return thread->detach();
  work();
}

bool InFlight::interrupt(std::uint64_t unique) {
  if (interrupt_waiting(unique)) return true;
  MutexLock lock(mutex_);
  // One that is repeated is known already.
  std::erase_if(interrupts_, [unique](const Interrupt& one) { return one.unique == unique; });
  if (interrupts_.size() >= kMostInterrupts) interrupts_.pop_front();
  interrupts_.push_back({unique, std::chrono::steady_clock::now()});
  interrupts_now_ = interrupts_.size();
  return false;
}

bool InFlight::ends_request(std::uint64_t unique, pid_t caller, std::uint32_t opcode) {
  if (opcode == FUSE_SETLKW || sys::has_signal_to_handle(caller)) return true;
  {
    MutexLock lock(mutex_);
    if (repeats_.size() >= kMostInterrupts) return true;
    repeats_.push_back({unique, std::chrono::steady_clock::now()});
    repeats_now_ = repeats_.size();
  }
  if (wake_) wake_();
  return false;
}

/// EAGAIN has the kernel interrupt the request again, if that is not answered meanwhile (fuse_dev_do_write()).
void InFlight::repeat_interrupts(TimePoint now) {
  if (now - repeated_ < kRepeat) return;
  repeated_ = now;
  std::deque<Interrupt> due;
  {
    MutexLock lock(mutex_);
    while (!repeats_.empty() && now - repeats_.front().since >= kRepeat && due.size() < kMostRepeats) {
      due.push_back(repeats_.front());
      repeats_.pop_front();
    }
    repeats_now_ = repeats_.size();
  }
  for (const Interrupt& one : due) setup_.answer(one.unique | kOfInterrupt, EAGAIN, {});
}

/// Answers a request that is not done.
void InFlight::refuse(Lane::Waiting& waiting, int error) {
  if (waiting.work) return waiting.work(error);
  setup_.answer(waiting.unique, error, {});
}

/// Answers the request with that number if it waits in a lane.
bool InFlight::interrupt_waiting(std::uint64_t unique) {
  std::vector<Lane*> lanes;
  {
    MutexLock lock(mutex_);
    lanes = lanes_;
  }
  for (Lane* const lane : lanes) {
    const std::optional<Lane::Caller> caller = lane->caller_of(unique);
    if (!caller) continue;
    if (!ends_request(unique, caller->pid, caller->opcode)) return true;
    if (answer_waiting(*lane, unique, EINTR)) return true;
  }
  return false;
}

/// Answers a request that waits in a lane and takes it out, unless it must be done all the same. False: it does not
/// wait there.
bool InFlight::answer_waiting(Lane& lane, std::uint64_t unique, int error) {
  bool stays = false;
  std::optional<Lane::Waiting> taken = lane.take(unique, stays);
  if (taken) {
    stopped_waiting();
    refuse(*taken, error);
  } else if (stays) {
    setup_.answer(unique, error, {});
  }
  return taken || stays;
}

void InFlight::care(TimePoint now) {
  const bool look_for_exits = now >= look_for_exits_;
  if (look_for_exits) {
    look_for_exits_ = now + kExitLook;
    ++exit_looks_;
  }
  const std::vector<Slot*> all = slots();
  const std::size_t parts = 1 + stuck_threads() / kExitLooks;
  for (std::size_t i = 0; i < all.size(); ++i) {
    look_at(*all[i], now, look_for_exits && i % parts == exit_looks_ % parts);
  }
  if (interrupts_now_ != 0) answer_interrupts(all, now);
  if (repeats_now_ != 0) repeat_interrupts(now);
  if (is_troubled()) look_at_lanes(now, look_for_exits);
}

void InFlight::look_at(Slot& slot, TimePoint now, bool look_for_exits) {
  const std::uint64_t serial = slot.serial.load(std::memory_order_acquire);
  if (std::exchange(slot.seen, serial) != serial) slot.since.store(now, std::memory_order_relaxed);
  if (serial % 2 == 0 || now - slot.since.load(std::memory_order_relaxed) < kStuck) return;
  if (slot.stuck.load(std::memory_order_relaxed) == nullptr) note_stuck(slot);
  const std::uint64_t unique = slot.word.load(std::memory_order_acquire);
  if (unique == 0 || (unique & kClaimed) != 0) return;
  answer_known(slot, unique);
  acknowledge(slot, unique, now);
  answer_overdue(slot, unique, now);
  if (!look_for_exits) return;
  const std::uint32_t opcode = slot.opcode.load(std::memory_order_relaxed);
  const bool reads_pages = slot.reads_pages.load(std::memory_order_relaxed);
  if (!has_ended(opcode, reads_pages, slot.pid.load(std::memory_order_relaxed)) || !claim(slot, unique)) return;
  setup_.answer(unique, error_of_ended(opcode), {});
}

void InFlight::note_stuck(Slot& slot) {
  Lane* const entered = slot.lane.load(std::memory_order_relaxed);
  Lane* const lane = entered != nullptr ? entered : lane_of(slot.node.load(std::memory_order_relaxed));
  if (lane == nullptr || slot.serial.load(std::memory_order_acquire) != slot.seen) return;
  const Lane::Epoch epoch = lane->note_stuck(
      entered != nullptr ? std::optional(slot.entered_in.load(std::memory_order_relaxed)) : std::nullopt);
  slot.stuck_in.store(epoch, std::memory_order_relaxed);
  slot.stuck_outside.store(entered == nullptr, std::memory_order_relaxed);
  stuck_.fetch_add(1, std::memory_order_relaxed);
  troubles_.fetch_add(1, std::memory_order_relaxed);
  slot.stuck.store(lane, std::memory_order_seq_cst);
  if (slot.serial.load(std::memory_order_seq_cst) == slot.seen) return;
  // The thread has come back just now, and may not have seen this.
  if (slot.stuck.exchange(nullptr) == nullptr || !come_back(slot, *lane)) return;
  leave(*lane, epoch, std::chrono::steady_clock::now());
}

void InFlight::answer_known(Slot& slot, std::uint64_t unique) {
  std::string known;
  int error = 0;
  {
    MutexLock lock(slot.mutex);
    if (slot.known_for != unique) return;
    known = slot.known;
    error = slot.known_error;
  }
  if (claim(slot, unique)) setup_.answer(unique, error, known);
}

/// The kernel has close(2), msync(2) and the end of a process wait for pages that it writes back, and no signal ends
/// that. So it is told that they are written. The next fsync(2) or close(2) waits until they are, or is told the error.
void InFlight::acknowledge(Slot& slot, std::uint64_t unique, TimePoint now) {
  const std::uint32_t size = slot.written_back.load(std::memory_order_relaxed);
  Lane* const lane = slot.stuck.load(std::memory_order_relaxed);
  if (size == 0 || lane == nullptr) return;
  if (now - slot.since.load(std::memory_order_relaxed) < Lane::kWriteBackPatience) return;
  const std::uint64_t node = slot.node.load(std::memory_order_relaxed);
  {
    MutexLock lock(slot.mutex);  // its thread does not end the request meanwhile
    if (slot.message.empty() || slot.kept || slot.word.load() != unique) return;
    slot.kept = unwritten_->keep(slot.message);
    if (!slot.kept) return;
  }
  lane->add_unwritten(node, unique);
  if (!claim(slot, unique)) {
    lane->remove_unwritten(node, unique);
    return;
  }
  setup_.answer(unique, 0, bytes_of({.size = size, .padding = 0}));
  crash_point("pages-acknowledged");
}

void InFlight::acknowledge(Lane& lane, TimePoint now) {
  const auto keep_copy = [this](std::span<const char> message) { return unwritten_->keep(message); };
  for (const Lane::Acknowledged& one : lane.acknowledge(now, keep_copy)) {
    setup_.answer(one.unique, 0, bytes_of({.size = one.size, .padding = 0}));
    crash_point("pages-acknowledged");
  }
}

void InFlight::begin_write_back(Slot& slot, const protocol::Message& message) noexcept {
  const std::uint32_t size = protocol::size_written_back(message);
  if (size == 0) return;
  slot.is_written.store(false, std::memory_order_relaxed);
  {
    MutexLock lock(slot.mutex);
    slot.message = message.bytes;
    slot.kept.reset();
  }
  slot.written_back.store(size, std::memory_order_relaxed);
}

void InFlight::end_write_back(Slot& slot) {
  std::optional<std::uint32_t> kept;
  {
    MutexLock lock(slot.mutex);
    slot.message = {};
    kept = std::exchange(slot.kept, std::nullopt);
  }
  const std::uint64_t word = slot.word.load(std::memory_order_acquire);
  const bool is_claimed = (word & kClaimed) != 0;
  const std::uint64_t node = slot.node.load(std::memory_order_relaxed);
  if (is_claimed && !slot.is_written.load(std::memory_order_relaxed)) setup_.note_lost_pages(node);
  if (kept) crash_point("pages-done");
  // Before others may write to the file: the next server would write these pages again.
  drop_kept(kept);
  Lane* const stuck = slot.stuck.load(std::memory_order_acquire);
  Lane* const lane = stuck != nullptr ? stuck : slot.lane.load(std::memory_order_relaxed);
  if (is_claimed && lane != nullptr) lane->remove_unwritten(node, word & ~kClaimed);
}

void InFlight::keep_in(UnwrittenPages& unwritten) {
  unwritten_ = &unwritten;
  for (UnwrittenPages::Left& left : unwritten.left()) {
    Lane::Waiting waiting = waiting_of(protocol::Message(left.message), std::chrono::steady_clock::now());
    Lane* const lane = lane_of(waiting.node, waiting.opcode);
    if (lane == nullptr || waiting.written_back == 0) {
      unwritten.drop(left.slot);
      continue;
    }
    waiting.kept = left.slot;
    waiting.answered = true;
    const std::uint64_t unique = waiting.unique;
    troubles_.fetch_add(1, std::memory_order_relaxed);
    lane->take_over(std::move(waiting));
    note_waiting(*lane, unique);
  }
}

void InFlight::interrupt_stuck(Slot& slot, std::uint64_t unique) {
  const pid_t caller = slot.pid.load(std::memory_order_relaxed);
  const std::uint32_t opcode = slot.opcode.load(std::memory_order_relaxed);
  if (ends_request(unique, caller, opcode) && claim(slot, unique)) setup_.answer(unique, EINTR, {});
}

/// A request that does not change anything need not be waited for.
void InFlight::answer_overdue(Slot& slot, std::uint64_t unique, TimePoint now) {
  const Lane* const lane = slot.stuck.load(std::memory_order_relaxed);
  const Duration timeout = lane != nullptr ? lane->request_timeout() : Duration::zero();
  if (timeout <= Duration::zero() || now - slot.since.load(std::memory_order_relaxed) < timeout) return;
  if (!protocol::changes_nothing(slot.opcode.load(std::memory_order_relaxed)) || slot.changes.load()) return;
  if (claim(slot, unique)) setup_.answer(unique, ETIMEDOUT, {});
}

void InFlight::answer_overdue(Lane& lane, TimePoint now) {
  for (Lane::Waiting& one : lane.take_overdue(now)) {
    stopped_waiting();
    refuse(one, ETIMEDOUT);
  }
}

void InFlight::answer_interrupts(const std::vector<Slot*>& slots, TimePoint now) {
  std::unordered_map<std::uint64_t, Slot*> stuck;
  for (Slot* const slot : slots) {
    if (now - slot->since.load(std::memory_order_relaxed) >= kInterruptPatience)
      stuck.emplace(slot->word.load(std::memory_order_acquire), slot);
  }
  std::deque<Interrupt> all;
  {
    MutexLock lock(mutex_);
    all = interrupts_;
  }
  std::vector<std::uint64_t> over;
  for (const Interrupt& interrupt : all) {
    const auto found = stuck.find(interrupt.unique);
    const bool is_stuck = found != stuck.end();
    if (is_stuck) interrupt_stuck(*found->second, interrupt.unique);
    // The request may have come to a lane only after its interrupt.
    const bool answered = is_stuck || interrupt_waiting(interrupt.unique);
    if (answered || now - interrupt.since >= kInterruptKept) over.push_back(interrupt.unique);
  }
  std::sort(over.begin(), over.end());
  MutexLock lock(mutex_);
  std::erase_if(interrupts_,
                [&](const Interrupt& one) { return std::binary_search(over.begin(), over.end(), one.unique); });
  interrupts_now_ = interrupts_.size();
}

void InFlight::look_at_lanes(TimePoint now, bool look_for_exits) {
  std::vector<Lane*> lanes;
  {
    MutexLock lock(mutex_);
    std::erase_if(lanes_, [](const Lane* lane) { return !lane->has_waiting(); });
    lanes = lanes_;
  }
  for (Lane* const lane : lanes) {
    Lane::Epoch epoch = 0;
    if (std::optional<Lane::Waiting> next = lane->probe(now, most_inside(), epoch)) {
      stopped_waiting();
      handle_apart(*lane, epoch, one(*std::move(next)));
    }
    answer_overdue(*lane, now);
    acknowledge(*lane, now);
    if (look_for_exits) answer_ended(*lane);
  }
}

void InFlight::answer_ended(Lane& lane) {
  for (const std::uint32_t opcode : {FUSE_FLUSH, FUSE_READ}) {
    const std::vector<Lane::Caller> callers = lane.callers(opcode);
    const std::size_t parts = 1 + callers.size() / kExitLooks;
    for (std::size_t at = exit_looks_ % parts; at < callers.size(); at += parts) answer_ended(lane, callers[at]);
  }
}

void InFlight::answer_ended(Lane& lane, const Lane::Caller& caller) {
  if (!has_ended(caller.opcode, caller.reads_pages, caller.pid)) return;
  answer_waiting(lane, caller.unique, error_of_ended(caller.opcode));
}

void InFlight::give_up(Lane& lane, int error) {
  std::vector<std::uint64_t> unwritten;
  std::deque<Lane::Waiting> waiting = lane.begin_again(unwritten);
  for (const std::uint64_t node : unwritten) setup_.note_lost_pages(node);
  stopped_waiting(waiting.size());
  for (Slot* const slot : slots()) {
    const std::uint64_t unique = slot->word.load(std::memory_order_acquire);
    if (unique == 0 || (unique & kClaimed) != 0) continue;
    if (lane_of(slot->node.load()) != &lane) continue;
    if (claim(*slot, unique)) setup_.answer(unique, error, {});
  }
  std::deque<Lane::Waiting> to_do;
  for (Lane::Waiting& one : waiting) {
    if (one.written_back != 0) {
      if (!one.answered) setup_.answer(one.unique, error, {});
      drop_kept(one.kept);
    } else if (one.must_be_done) {
      if (!std::exchange(one.answered, true)) setup_.answer(one.unique, error, {});
      to_do.push_back(std::move(one));
    } else {
      refuse(one, error);
    }
  }
  // In no epoch: they take no place of another request.
  handle_apart(lane, 0, std::move(to_do));
}

std::vector<Lane::Caller> InFlight::callers(const Lane& lane) const {
  std::vector<Lane::Caller> all = lane.callers();
  for (const Slot* const slot : slots()) {
    const std::uint64_t unique = slot->word.load(std::memory_order_acquire);
    if (slot->stuck.load() != &lane || unique == 0 || (unique & kClaimed) != 0) continue;
    all.push_back({unique, slot->pid.load(), slot->uid.load(), slot->opcode.load(), slot->node.load(),
                   slot->since.load(std::memory_order_relaxed), slot->reads_pages.load(std::memory_order_relaxed)});
  }
  return all;
}

}  // namespace berth::fuse
