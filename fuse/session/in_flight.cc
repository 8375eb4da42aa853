#include "fuse/session/in_flight.h"

#include <linux/fuse.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "fuse/session/this_request.h"
#include "fuse/wire/protocol.h"
#include "src/lib/sys/thread.h"

namespace berth::fuse {
namespace {

/// The most threads that may be stuck. The more are stuck, the fewer one share may hold.
constexpr std::size_t kManyStuck = 1024;

}  // namespace

InFlight::InFlight(Setup setup) : setup_(std::move(setup)) {}

InFlight::~InFlight() {
  MutexLock lock(mutex_);
  while (apart_ != 0) apart_ended_.wait(mutex_);
}

void InFlight::serve(Handle handle, std::function<void()> wake, std::function<void(std::uint64_t)> note_parked) {
  handle_ = std::move(handle);
  wake_ = std::move(wake);
  note_parked_ = std::move(note_parked);
}

std::size_t InFlight::most_inside() const noexcept {
  const std::size_t left = kManyStuck - std::min(kManyStuck, stuck_threads());
  return std::clamp(left / 8, Lane::kFewStuck, Lane::kMostInside);
}

Lane::Entry InFlight::enter(RequestSlot& slot, Lane& lane, const protocol::Message& message) {
  const TimePoint now = std::chrono::steady_clock::now();
  Lane::Waiting waiting = Lane::Waiting::of(message, now);
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
  RequestSlot* const slot = this_request::slot;
  if (slot == nullptr || slot->lane.load(std::memory_order_relaxed) != nullptr) return true;
  Lane::Epoch epoch = 0;
  if (!lane.try_enter(most_inside(), epoch)) return false;
  slot->entered_in.store(epoch, std::memory_order_relaxed);
  slot->lane.store(&lane, std::memory_order_relaxed);
  return true;
}

void InFlight::note_waiting(Lane& lane, std::uint64_t unique) {
  if (note_parked_) note_parked_(unique);
  {
    MutexLock lock(mutex_);
    if (std::find(lanes_.begin(), lanes_.end(), &lane) == lanes_.end()) lanes_.push_back(&lane);
  }
  if (wake_) wake_();
}

void InFlight::go_on(Lane& lane, Lane::Waiting waiting) {
  const this_request::Thread thread(slots_);
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
void InFlight::handle(RequestSlot& slot, Lane& lane, Lane::Epoch epoch, Lane::Waiting waiting, RequestRecord* record) {
  fuse_in_header header{};
  header.unique = waiting.unique;
  header.nodeid = waiting.node;
  header.opcode = waiting.opcode;
  header.uid = waiting.uid;
  header.pid = static_cast<std::uint32_t>(waiting.pid);
  const bool is_unwritten = waiting.is_unwritten();
  slot.entered_in.store(epoch, std::memory_order_relaxed);
  slot.reads_pages.store(waiting.reads_pages, std::memory_order_relaxed);
  slot.begin(header, record, &lane, waiting.unique | (waiting.answered ? RequestSlot::kClaimed : 0));
  if (waiting.written_back != 0) {
    slot.begin_write_back(protocol::Message(waiting.message));
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
  if (is_unwritten) stopped_waiting();
}

void InFlight::serve_waiting(RequestSlot& slot, RequestRecord* record) {
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
    stopped_waiting(*next);
    handle(slot, *lane, epoch, *std::move(next), record);
  }
}

/// Call it after taking `lane` out of the slot in which the thread is stuck. Whether the lane is to be left.
bool InFlight::come_back(RequestSlot& slot, Lane& lane) {
  stuck_.fetch_sub(1, std::memory_order_relaxed);
  stopped_waiting();
  lane.come_back(slot.stuck_in.load(std::memory_order_relaxed));
  return slot.stuck_outside.load(std::memory_order_relaxed);
}

void InFlight::leave(Lane& lane, Lane::Epoch epoch, TimePoint now) {
  std::optional<Lane::Waiting> next = lane.leave(now, epoch);
  if (!next) return;
  stopped_waiting(*next);
  handle_apart(lane, epoch, *std::move(next));
}

void InFlight::handle_apart(Lane& lane, Lane::Epoch epoch, Lane::Waiting waiting) {
  std::deque<Lane::Waiting> all;
  all.push_back(std::move(waiting));
  handle_apart(lane, epoch, std::move(all));
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
      const this_request::Thread thread(slots_);
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

/// Answers a request that is not done.
void InFlight::refuse(Lane::Waiting& waiting, int error) {
  if (waiting.work) return waiting.work(error);
  setup_.answer(waiting.unique, error, {});
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

bool InFlight::interrupt(std::uint64_t unique) {
  if (interrupt_waiting(unique)) return true;
  interrupts_.add(unique);
  return false;
}

bool InFlight::ends_request(std::uint64_t unique, pid_t caller, std::uint32_t opcode) {
  const bool ends = interrupts_.ends_request(unique, caller, opcode);
  if (!ends && wake_) wake_();
  return ends;
}

void InFlight::give_up(Lane& lane, int error) {
  std::vector<std::uint64_t> unwritten;
  std::deque<Lane::Waiting> waiting = lane.begin_again(unwritten);
  for (const std::uint64_t node : unwritten) setup_.note_lost_pages(node);
  stopped_waiting(waiting.size());
  for (RequestSlot* const slot : slots_.in_use()) {
    const std::uint64_t unique = slot->claimable();
    if (unique == 0 || lane_of(slot->node.load()) != &lane) continue;
    if (slot->claim(unique)) setup_.answer(unique, error, {});
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
  // In no epoch: they do not count as inside.
  handle_apart(lane, 0, std::move(to_do));
}

std::vector<Lane::Caller> InFlight::callers(const Lane& lane) const {
  std::vector<Lane::Caller> all = lane.callers();
  for (const RequestSlot* const slot : slots_.in_use()) {
    const std::uint64_t unique = slot->claimable();
    if (slot->stuck.load() != &lane || unique == 0) continue;
    all.push_back({unique, slot->pid.load(), slot->uid.load(), slot->opcode.load(), slot->node.load(),
                   slot->since.load(std::memory_order_relaxed), slot->reads_pages.load(std::memory_order_relaxed)});
  }
  return all;
}

}  // namespace berth::fuse
