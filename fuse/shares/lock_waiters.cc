#include "fuse/shares/lock_waiters.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "fuse/session/room.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/thread.h"

namespace berth::fuse {
namespace {

constexpr std::chrono::milliseconds kFirstPause{1};
constexpr std::chrono::milliseconds kLongestPause{20};

}  // namespace

LockWaiters::~LockWaiters() {
  MutexLock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  while (threads_ != 0) changed_.wait(mutex_);
}

void LockWaiters::wait(ShareIndex share, Reply reply, Try attempt, Undo undo) {
  const uid_t user = reply.caller().uid;
  // An interrupt answers, and the next attempt notices that.
  auto parked = ParkedReply::park(std::move(reply), [](Reply interrupted) { std::move(interrupted).error(EINTR); });
  std::list<Waiter> one;
  one.push_back({user, parked, std::move(attempt), std::move(undo)});
  bool start = false;
  bool full = false;
  anybody_.store(true, std::memory_order_release);
  {
    MutexLock lock(mutex_);
    Line& line = lines_[share];
    const auto of_user = line.of_users.find(user);
    const std::size_t of_one = of_user != line.of_users.end() ? of_user->second : 0;
    full = stopping_ || !has_room(user, line.waiting, of_one, kMostWaiting, kMostWaitingOfUser);
    if (!full) {
      line.arrived.splice(line.arrived.end(), one);
      ++line.waiting;
      ++line.of_users[user];
      start = !std::exchange(line.served, true);
      if (start) ++threads_;
      changed_.notify_all();
    }
  }
  if (full) {
    if (std::optional<Reply> taken = parked->take()) std::move(*taken).error(ENOLCK);
    return;
  }
  if (!start) return;
  Result<std::thread> thread = sys::start_thread("berth-locks", [this, share] { serve(share); });
  if (thread) return thread->detach();
  log::error("no caller can wait for a lock: {}", thread.error().message());
  std::list<Waiter> refused;
  {
    MutexLock lock(mutex_);
    Line& line = lines_[share];
    refused.swap(line.arrived);
    line.waiting = 0;
    line.of_users.clear();
    line.served = false;
    --threads_;
    changed_.notify_all();
  }
  for (const Waiter& waiter : refused) {
    if (std::optional<Reply> taken = waiter.reply->take()) std::move(*taken).error(ENOLCK);
  }
}

void LockWaiters::wake(ShareIndex share) {
  if (!anybody_.load(std::memory_order_acquire)) return;
  MutexLock lock(mutex_);
  const auto line = lines_.find(share);
  if (line == lines_.end() || !line->second.served) return;
  line->second.woken = true;
  changed_.notify_all();
}

/// True: the request is done.
bool LockWaiters::try_one(Waiter& waiter) noexcept {
  const int code = waiter.reply->taken() ? EINTR : waiter.attempt();
  if (code == EAGAIN) return false;
  if (std::optional<Reply> reply = waiter.reply->take()) {
    std::move(*reply).error(code);
  } else {
    waiter.undo(code == 0);
  }
  return true;
}

/// False when this was the last of the share, and the thread ends.
bool LockWaiters::take_arrived(ShareIndex share, std::list<Waiter>& waiters) {
  MutexLock lock(mutex_);
  Line& line = lines_[share];
  waiters.splice(waiters.end(), line.arrived);
  if (line.waiting != waiters.size()) {  // some have ended
    line.of_users.clear();
    for (const Waiter& waiter : waiters) ++line.of_users[waiter.user];
  }
  line.waiting = waiters.size();
  line.woken = false;
  if (!waiters.empty() && !stopping_) return true;
  line.served = false;
  return false;
}

void LockWaiters::serve(ShareIndex share) noexcept {
  std::list<Waiter> waiters;
  auto pause = kFirstPause;
  while (take_arrived(share, waiters)) {
    const std::size_t before = waiters.size();
    waiters.remove_if([](Waiter& waiter) { return try_one(waiter); });
    pause = waiters.size() != before ? kFirstPause : std::min(pause * 2, kLongestPause);
    if (waiters.empty()) continue;
    MutexLock lock(mutex_);
    const Line& line = lines_[share];
    const auto until = std::chrono::steady_clock::now() + pause;
    while (!stopping_ && !line.woken && line.arrived.empty() && changed_.wait_until(mutex_, until)) {
    }
  }
  for (const Waiter& waiter : waiters) {
    if (std::optional<Reply> reply = waiter.reply->take()) std::move(*reply).error(EINTR);
  }
  waiters.clear();
  MutexLock lock(mutex_);
  --threads_;
  changed_.notify_all();
}

}  // namespace berth::fuse
