#include "fuse/session/lane.h"

#include <linux/fuse.h>

#include <algorithm>
#include <utility>

#include "fuse/wire/opcode.h"
#include "fuse/wire/protocol.h"

namespace berth::fuse {
namespace {

/// How long a silent share is left alone after one request was sent to try; four times as long after each.
constexpr std::chrono::milliseconds kFirstPause{250};
constexpr unsigned kMostProbes = 4;

}  // namespace

bool Lane::answers(TimePoint now) const { return stuck_ < kFewStuck || now < answers_until_; }

/// A silent share is tried again, at once and then after ever longer pauses.
bool Lane::may_probe(TimePoint now, std::size_t most) {
  if (inside_ >= most || probes_ >= kMostProbes || now < next_probe_) return false;
  next_probe_ = now + kFirstPause * (1U << (2 * probes_));
  ++probes_;
  return true;
}

/// Root may wait even where other users fill the lane.
bool Lane::has_room(const Waiting& waiting) const {
  const std::size_t size = waiting.message.size();
  if (waiting.uid == 0) return waiting_.size() < kMostWaiting + kMostWaitingOfUser && bytes_ + size <= kMostBytes * 2;
  if (waiting_.size() >= kMostWaiting || bytes_ + size > kMostBytes) return false;
  const auto user = of_users_.find(waiting.uid);
  if (user == of_users_.end()) return true;
  return user->second.requests < kMostWaitingOfUser && user->second.bytes + size <= kMostBytesOfUser;
}

void Lane::add(Waiting waiting) {
  bytes_ += waiting.message.size();
  OfUser& user = of_users_[waiting.uid];
  ++user.requests;
  user.bytes += waiting.message.size();
  waiting_.push_back(std::move(waiting));
  waiting_now_.store(waiting_.size(), std::memory_order_relaxed);
}

Lane::Waiting Lane::take_at(std::deque<Waiting>::iterator at) {
  Waiting taken = std::move(*at);
  waiting_.erase(at);
  waiting_now_.store(waiting_.size(), std::memory_order_relaxed);
  bytes_ -= taken.message.size();
  const auto user = of_users_.find(taken.uid);
  user->second.bytes -= taken.message.size();
  if (--user->second.requests == 0) of_users_.erase(user);
  return taken;
}

Lane::Entry Lane::enter(TimePoint now, std::size_t most, bool must, Epoch& epoch, Waiting& waiting) {
  MutexLock lock(mutex_);
  epoch = epoch_;
  if (waiting_.empty() && inside_ < most && (answers(now) || may_probe(now, most))) {
    ++inside_;
    return Entry::kInside;
  }
  if (!must && !has_room(waiting)) return Entry::kRefused;
  add(std::move(waiting));
  return Entry::kWaits;
}

bool Lane::try_enter(std::size_t most, Epoch& epoch) {
  MutexLock lock(mutex_);
  if (stuck_ != 0 || inside_ >= most || !waiting_.empty()) return false;
  epoch = epoch_;
  ++inside_;
  return true;
}

std::optional<Lane::Waiting> Lane::leave(TimePoint now, Epoch epoch) {
  MutexLock lock(mutex_);
  if (epoch != epoch_) return std::nullopt;
  answers_until_ = now + kSilence;
  next_probe_ = {};
  probes_ = 0;
  if (!waiting_.empty()) return take_at(waiting_.begin());
  --inside_;
  return std::nullopt;
}

Lane::Epoch Lane::note_stuck(std::optional<Epoch> entered) {
  MutexLock lock(mutex_);
  if (entered && *entered != epoch_) return *entered;
  stuck_now_.store(++stuck_, std::memory_order_relaxed);
  if (!entered) ++inside_;
  return epoch_;
}

void Lane::come_back(Epoch epoch) {
  MutexLock lock(mutex_);
  if (epoch == epoch_) stuck_now_.store(--stuck_, std::memory_order_relaxed);
}

std::optional<Lane::Waiting> Lane::probe(TimePoint now, std::size_t most, Epoch& epoch) {
  MutexLock lock(mutex_);
  if (waiting_.empty()) return std::nullopt;
  if (inside_ != 0 && (answers(now) || !may_probe(now, most))) return std::nullopt;
  epoch = epoch_;
  ++inside_;
  return take_at(waiting_.begin());
}

std::optional<Lane::Caller> Lane::caller_of(std::uint64_t unique) const {
  if (!has_waiting()) return std::nullopt;
  const std::vector<Caller> all = callers();
  const auto found = std::find_if(all.begin(), all.end(), [unique](const Caller& one) { return one.unique == unique; });
  return found != all.end() ? std::optional(*found) : std::nullopt;
}

std::optional<Lane::Waiting> Lane::take(std::uint64_t unique, bool& stays) {
  stays = false;
  if (!has_waiting()) return std::nullopt;
  MutexLock lock(mutex_);
  const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                  [unique](const Waiting& one) { return one.unique == unique && !one.answered; });
  if (found == waiting_.end()) return std::nullopt;
  if (!protocol::must_be_done(found->opcode)) return take_at(found);
  stays = true;
  found->answered = true;
  return std::nullopt;
}

std::deque<Lane::Waiting> Lane::take_overdue(TimePoint now) {
  std::deque<Waiting> overdue;
  const Duration timeout = request_timeout();
  if (timeout <= Duration::zero() || !has_waiting()) return overdue;
  MutexLock lock(mutex_);
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if (now - at->since < timeout || !protocol::changes_nothing(at->opcode)) {
      ++at;
      continue;
    }
    const auto index = at - waiting_.begin();
    overdue.push_back(take_at(at));
    at = waiting_.begin() + index;
  }
  return overdue;
}

std::deque<Lane::Waiting> Lane::begin_again() {
  MutexLock lock(mutex_);
  ++epoch_;
  inside_ = stuck_ = bytes_ = 0;
  stuck_now_.store(0, std::memory_order_relaxed);
  waiting_now_.store(0, std::memory_order_relaxed);
  answers_until_ = next_probe_ = {};
  probes_ = 0;
  of_users_.clear();
  return std::exchange(waiting_, {});
}

bool Lane::wait_for_mount(uid_t user) {
  MutexLock lock(mutex_);
  std::size_t& waiting = wait_for_mount_[user];
  if (user != 0 && waiting >= kMostWaitingOfUser) return false;
  ++waiting;
  return true;
}

void Lane::stop_waiting(uid_t user) {
  MutexLock lock(mutex_);
  const auto waiting = wait_for_mount_.find(user);
  if (--waiting->second == 0) wait_for_mount_.erase(waiting);
}

const char* Lane::Caller::operation() const noexcept { return name_of_opcode(opcode); }

std::vector<Lane::Caller> Lane::callers(std::uint32_t opcode) const {
  std::vector<Caller> callers;
  MutexLock lock(mutex_);
  for (const Waiting& one : waiting_) {
    if (one.answered || (opcode != 0 && one.opcode != opcode)) continue;
    callers.push_back({one.unique, one.pid, one.uid, one.opcode, one.node, one.since});
  }
  return callers;
}

}  // namespace berth::fuse
