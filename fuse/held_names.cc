#include "fuse/held_names.h"

#include <cerrno>
#include <utility>

namespace berth::fuse {

void HeldNames::doubt(const std::string& share) {
  MutexLock lock(mutex_);
  names_.try_emplace(share);
  count_.store(names_.size(), std::memory_order_release);
}

void HeldNames::hold(const std::string& share) {
  MutexLock lock(mutex_);
  if (const auto found = names_.find(share); found != names_.end()) found->second.held = true;
}

std::vector<Reply> HeldNames::release(const std::string& share) {
  std::vector<Waiting> waiting;
  {
    MutexLock lock(mutex_);
    const auto found = names_.find(share);
    if (found == names_.end()) return {};
    waiting = std::move(found->second.waiting);
    names_.erase(found);
    count_.store(names_.size(), std::memory_order_release);
  }
  std::vector<Reply> replies;
  for (const Waiting& one : waiting) {
    if (std::optional<Reply> reply = one.reply->take()) replies.push_back(*std::move(reply));
  }
  return replies;
}

std::vector<pid_t> HeldNames::waiting(const std::string& share) const {
  std::vector<pid_t> threads;
  MutexLock lock(mutex_);
  const auto found = names_.find(share);
  if (found == names_.end()) return threads;
  threads.reserve(found->second.waiting.size());
  for (const Waiting& one : found->second.waiting) threads.push_back(one.thread);
  return threads;
}

bool HeldNames::may_remember(const std::string& share) const {
  if (count_.load(std::memory_order_acquire) == 0) return true;
  MutexLock lock(mutex_);
  return !names_.contains(share);
}

std::optional<Reply> HeldNames::pass_or_wait(const std::string& share, Reply reply) {
  if (count_.load(std::memory_order_acquire) == 0) return reply;
  {
    MutexLock lock(mutex_);
    const auto found = names_.find(share);
    if (found == names_.end() || !found->second.held) return reply;
  }
  const pid_t thread = reply.caller().pid;
  const auto parked =
      ParkedReply::park(std::move(reply), [](Reply interrupted) { std::move(interrupted).error(EINTR); });
  {
    MutexLock lock(mutex_);
    const auto found = names_.find(share);
    if (found != names_.end() && found->second.held) {
      found->second.waiting.push_back({thread, parked});
      return std::nullopt;
    }
  }
  return parked->take();  // released meanwhile; nothing if it was interrupted
}

}  // namespace berth::fuse
