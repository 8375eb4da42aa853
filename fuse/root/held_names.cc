#include "fuse/root/held_names.h"

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

namespace berth::fuse {
namespace {

/// Who has passed is remembered by thread; beyond this many by nobody's number, which stands for all.
constexpr std::size_t kMostPassed = 4096;
constexpr std::chrono::microseconds kDrainPoll{50};

}  // namespace

void HeldNames::doubt(const std::string& share) {
  {
    MutexLock lock(mutex_);
    names_.try_emplace(share);
    count_ = names_.size();
  }
  drain_answers();
}

void HeldNames::drain_answers() {
  const std::lock_guard lock(draining_);
  const unsigned before = phase_++ & 1;
  while (answering_[before] != 0) std::this_thread::sleep_for(kDrainPoll);
}

void HeldNames::hold(const std::string& share) {
  MutexLock lock(mutex_);
  if (const auto found = names_.find(share); found != names_.end()) found->second.held = true;
}

std::vector<Reply> HeldNames::take(std::vector<Waiting> waiting) {
  std::vector<Reply> replies;
  for (const Waiting& one : waiting) {
    if (std::optional<Reply> reply = one.reply->take()) replies.push_back(*std::move(reply));
  }
  return replies;
}

std::vector<Reply> HeldNames::let_pass(const std::string& share) {
  std::vector<Waiting> waiting;
  {
    MutexLock lock(mutex_);
    const auto found = names_.find(share);
    if (found == names_.end()) return {};
    found->second.held = false;
    waiting.swap(found->second.waiting);
    for (const Waiting& one : waiting) found->second.passed.insert(one.thread);
  }
  return take(std::move(waiting));
}

std::vector<Reply> HeldNames::release(const std::string& share) {
  std::vector<Waiting> waiting;
  {
    MutexLock lock(mutex_);
    const auto found = names_.find(share);
    if (found == names_.end()) return {};
    waiting.swap(found->second.waiting);
    names_.erase(found);
    count_ = names_.size();
  }
  return take(std::move(waiting));
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

std::vector<pid_t> HeldNames::take_passed(const std::string& share) {
  std::set<pid_t> passed;
  MutexLock lock(mutex_);
  if (const auto found = names_.find(share); found != names_.end()) passed.swap(found->second.passed);
  return {passed.begin(), passed.end()};
}

bool HeldNames::may_remember(const std::string& share) const {
  if (count_ == 0) return true;
  MutexLock lock(mutex_);
  return !names_.contains(share);
}

std::optional<Reply> HeldNames::pass_or_wait(const std::string& share, Reply reply) {
  if (count_ == 0) return reply;
  const pid_t thread = reply.caller().pid;
  {
    MutexLock lock(mutex_);
    const auto found = names_.find(share);
    if (found == names_.end()) return reply;
    if (!found->second.held) {
      std::set<pid_t>& passed = found->second.passed;
      passed.insert(passed.size() < kMostPassed ? thread : 0);
      return reply;
    }
  }
  const auto parked =
      ParkedReply::park(std::move(reply), [](Reply interrupted) { std::move(interrupted).error(EINTR); });
  {
    MutexLock lock(mutex_);
    const auto found = names_.find(share);
    if (found != names_.end() && found->second.held) {
      found->second.waiting.push_back({thread, parked});
      return std::nullopt;
    }
    if (found != names_.end()) found->second.passed.insert(thread);
  }
  return parked->take();  // let pass meanwhile; nothing if it was interrupted
}

}  // namespace berth::fuse
