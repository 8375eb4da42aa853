#include "fuse/event_log.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace berth::fuse {

namespace {

/// What is left when the front is dropped: a quarter is dropped at once, so that it is not done for every line.
constexpr std::size_t kLeft = EventLog::kKept / 4 * 3;

}  // namespace

EventLog::EventLog() {
  // Signals are for the rest of the program; a thread inherits the mask.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  teller_ = std::thread([this] { tell(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

EventLog::~EventLog() { stop(); }

void EventLog::append(std::string_view lines, WallTime when) {
  MutexLock lock(mutex_);
  kept_.append(lines);
  if (kept_.size() > kKept) {
    const std::size_t line_end = kept_.find('\n', kept_.size() - std::min(kLeft, kept_.size()));
    const std::size_t dropped = line_end == std::string::npos ? kept_.size() : line_end + 1;
    kept_.erase(0, dropped);
    first_ += dropped;
  }
  changed_ = when;
  news_ = true;
  changed_condition_.notify_all();
}

std::uint64_t EventLog::size() const {
  MutexLock lock(mutex_);
  return first_ + kept_.size();
}

WallTime EventLog::changed() const {
  MutexLock lock(mutex_);
  return changed_;
}

void EventLog::stop() noexcept {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    changed_condition_.notify_all();
  }
  if (teller_.joinable()) teller_.join();
}

void EventLog::tell() {
  ::pthread_setname_np(::pthread_self(), "berth-events");
  for (;;) {
    std::vector<decltype(Reader::waker_)> wakers;
    {
      MutexLock lock(mutex_);
      while (!news_ && !stopped_) changed_condition_.wait(mutex_);
      if (stopped_) return;
      news_ = false;
      for (Reader* reader : readers_) {
        if (reader->waker_ != nullptr) wakers.push_back(std::move(reader->waker_));
      }
    }
    // Who does not wait any more is not told; a connection that is gone is noticed elsewhere.
    for (const auto& waker : wakers) fuse_lowlevel_notify_poll(waker.get());
  }
}

EventLog::Reader::Reader(EventLog& log) : log_(log) {
  std::list<Reader*> one{this};
  self_ = one.begin();
  MutexLock lock(log_.mutex_);
  log_.readers_.splice(log_.readers_.end(), one);
}

EventLog::Reader::~Reader() {
  std::list<Reader*> one;
  MutexLock lock(log_.mutex_);
  one.splice(one.end(), log_.readers_, self_);
}

std::string EventLog::Reader::read(std::uint64_t offset, std::size_t size) {
  MutexLock lock(log_.mutex_);
  // Who seeks knows where it is in the file; who reads on stands that much further back.
  if (offset != next_) skipped_ = 0;
  if (offset + skipped_ < log_.first_) skipped_ = log_.first_ - offset;
  const std::uint64_t at = offset + skipped_ - log_.first_;
  std::string part;
  if (at < log_.kept_.size()) part = log_.kept_.substr(at, size);
  next_ = offset + part.size();
  return part;
}

bool EventLog::Reader::poll(fuse_pollhandle* waker) {
  decltype(waker_) replaced(waker);
  MutexLock lock(log_.mutex_);
  if (next_ + skipped_ < log_.first_ + log_.kept_.size()) return true;
  if (replaced != nullptr) std::swap(replaced, waker_);
  return false;
}

}  // namespace berth::fuse
