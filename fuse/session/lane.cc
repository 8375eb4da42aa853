#include "fuse/session/lane.h"

#include <linux/fuse.h>

#include <algorithm>
#include <utility>

#include "fuse/session/room.h"
#include "fuse/wire/opcode.h"
#include "fuse/wire/protocol.h"

namespace berth::fuse {
namespace {

/// How long a silent share is left alone after one request was sent to try; four times as long after each.
constexpr std::chrono::milliseconds kFirstPause{250};
constexpr unsigned kMostProbes = 4;
/// How much acknowledge() copies in one call, with the lane locked.
constexpr std::size_t kMostBytesAtOnce = std::size_t{8} << 20;

Lane::Caller caller_in(const Lane::Waiting& one) {
  return {one.unique, one.pid, one.uid, one.opcode, one.node, one.since, one.reads_pages};
}

auto is_unanswered(std::uint64_t unique) {
  return [unique](const Lane::Waiting& one) { return one.unique == unique && !one.answered; };
}

}  // namespace

Lane::Waiting Lane::Waiting::of(const protocol::Message& message, TimePoint now) {
  const fuse_in_header& header = message.header;
  Waiting waiting;
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

bool Lane::answers(TimePoint now) const { return stuck_ < kFewStuck || now < answers_until_; }

/// A silent share is tried again, at once and then after ever longer pauses.
bool Lane::may_probe(TimePoint now, std::size_t most) {
  if (inside_ >= most || probes_ >= kMostProbes || now < next_probe_) return false;
  next_probe_ = now + kFirstPause * (1U << (2 * probes_));
  ++probes_;
  return true;
}

bool Lane::has_room(const Waiting& waiting) const {
  const auto known = of_users_.find(waiting.uid);
  const OfUser user = known != of_users_.end() ? known->second : OfUser{};
  const std::size_t size = waiting.message.size();
  return fuse::has_room(waiting.uid, counted_, user.requests, kMostWaiting, kMostWaitingOfUser) &&
         fuse::has_room(waiting.uid, bytes_ + size, user.bytes + size, kMostBytes + 1, kMostBytesOfUser + 1);
}

void Lane::add(Waiting waiting) {
  if (waiting.written_back == 0) {
    ++counted_;
    bytes_ += waiting.message.size();
    OfUser& user = of_users_[waiting.uid];
    ++user.requests;
    user.bytes += waiting.message.size();
  }
  waiting_.push_back(std::move(waiting));
  waiting_now_.store(waiting_.size(), std::memory_order_relaxed);
}

bool Lane::is_behind(const Waiting& waiting) const {
  if (unwritten_.empty()) return false;
  if (waiting.is_unwritten()) {
    const auto of_node = unwritten_.find(waiting.node);
    return of_node != unwritten_.end() && of_node->second.front() != waiting.unique;
  }
  return unwritten_.contains(waiting.node) || unwritten_.contains(waiting.target);
}

/// The first whose turn it is; the end: all wait for pages to be written.
std::deque<Lane::Waiting>::iterator Lane::next() {
  auto at = waiting_.begin();
  while (at != waiting_.end() && is_behind(*at)) ++at;
  return at;
}

Lane::Waiting Lane::take_at(std::deque<Waiting>::iterator at) {
  Waiting taken = std::move(*at);
  if (taken.answered) bytes_unwritten_ -= taken.written_back;
  waiting_.erase(at);
  waiting_now_.store(waiting_.size(), std::memory_order_relaxed);
  if (taken.written_back != 0) return taken;
  --counted_;
  bytes_ -= taken.message.size();
  const auto user = of_users_.find(taken.uid);
  user->second.bytes -= taken.message.size();
  if (--user->second.requests == 0) of_users_.erase(user);
  return taken;
}

Lane::Entry Lane::enter(TimePoint now, std::size_t most, Epoch& epoch, Waiting& waiting) {
  MutexLock lock(mutex_);
  epoch = epoch_;
  if (!is_behind(waiting) && next() == waiting_.end() && inside_ < most && (answers(now) || may_probe(now, most))) {
    ++inside_;
    return Entry::kInside;
  }
  if (!waiting.must_be_done && !has_room(waiting)) return Entry::kRefused;
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
  if (const auto first = next(); first != waiting_.end()) return take_at(first);
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
  const auto first = next();
  if (first == waiting_.end()) return std::nullopt;
  if (inside_ != 0 && (answers(now) || !may_probe(now, most))) return std::nullopt;
  epoch = epoch_;
  ++inside_;
  return take_at(first);
}

std::optional<Lane::Caller> Lane::caller_of(std::uint64_t unique) const {
  if (!has_waiting()) return std::nullopt;
  MutexLock lock(mutex_);
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), is_unanswered(unique));
  return found != waiting_.end() ? std::optional(caller_in(*found)) : std::nullopt;
}

std::optional<Lane::Waiting> Lane::take(std::uint64_t unique, bool& stays) {
  stays = false;
  if (!has_waiting()) return std::nullopt;
  MutexLock lock(mutex_);
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), is_unanswered(unique));
  if (found == waiting_.end()) return std::nullopt;
  if (!found->must_be_done) return take_at(found);
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
    if (now - at->since < timeout || at->changes || !protocol::changes_nothing(at->opcode)) {
      ++at;
      continue;
    }
    const auto index = at - waiting_.begin();
    overdue.push_back(take_at(at));
    at = waiting_.begin() + index;
  }
  return overdue;
}

std::deque<Lane::Waiting> Lane::begin_again(std::vector<std::uint64_t>& unwritten) {
  MutexLock lock(mutex_);
  for (const auto& [node, requests] : unwritten_) unwritten.push_back(node);
  unwritten_.clear();
  ++epoch_;
  inside_ = stuck_ = counted_ = bytes_ = bytes_unwritten_ = 0;
  stuck_now_.store(0, std::memory_order_relaxed);
  waiting_now_.store(0, std::memory_order_relaxed);
  answers_until_ = next_probe_ = {};
  probes_ = 0;
  of_users_.clear();
  return std::exchange(waiting_, {});
}

void Lane::add_unwritten(std::uint64_t node, std::uint64_t unique) {
  MutexLock lock(mutex_);
  unwritten_[node].push_back(unique);
}

bool Lane::remove_unwritten(std::uint64_t node, std::uint64_t unique) {
  MutexLock lock(mutex_);
  const auto found = unwritten_.find(node);
  if (found == unwritten_.end()) return false;
  const auto ended = std::find(found->second.begin(), found->second.end(), unique);
  if (ended == found->second.end()) return false;
  found->second.erase(ended);
  if (!found->second.empty()) return false;
  unwritten_.erase(found);
  return true;
}

std::vector<Lane::Acknowledged> Lane::acknowledge(TimePoint now, const Keep& keep) {
  std::vector<Acknowledged> acknowledged;
  if (!has_waiting()) return acknowledged;
  MutexLock lock(mutex_);
  const bool is_silent = !answers(now);
  std::size_t copied = 0;
  for (Waiting& one : waiting_) {
    if (one.written_back == 0 || one.answered || (!is_silent && now - one.since < kWriteBackPatience)) continue;
    if (bytes_unwritten_ + one.written_back > kMostBytesUnwritten || copied >= kMostBytesAtOnce) break;
    one.kept = keep(one.message);
    if (!one.kept) break;
    copied += one.written_back;
    bytes_unwritten_ += one.written_back;
    one.answered = true;
    unwritten_[one.node].push_back(one.unique);
    acknowledged.push_back({one.unique, one.written_back});
  }
  return acknowledged;
}

void Lane::take_over(Waiting waiting) {
  MutexLock lock(mutex_);
  bytes_unwritten_ += waiting.written_back;
  unwritten_[waiting.node].push_back(waiting.unique);
  add(std::move(waiting));
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
    callers.push_back(caller_in(one));
  }
  return callers;
}

}  // namespace berth::fuse
