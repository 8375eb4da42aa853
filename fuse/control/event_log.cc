#include "fuse/control/event_log.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>
#include <vector>

#include "src/lib/sys/thread.h"

namespace berth::fuse {

namespace {

/// What is left when the front is dropped: a quarter is dropped at once, so that it is not done for every line.
constexpr std::size_t kLeft = EventLog::kKept / 4 * 3;

}  // namespace

EventLog::EventLog(EventArea* area)
    : own_(area == nullptr ? std::make_unique<EventArea>() : nullptr), area_(area == nullptr ? *own_ : *area) {
  // At once: a line that is added from now on wakes only the waiters that have asked this server.
  for (std::atomic<std::uint64_t>& poll : area_.polls) {
    if (const std::uint64_t number = poll.exchange(0); number != 0) inherited_polls_.push_back(number);
  }
  teller_ = sys::start_thread("berth-events", [this] { tell(); }).value();
}

EventLog::~EventLog() { stop(); }

void EventLog::append(std::string_view lines, WallTime when) {
  MutexLock lock(mutex_);
  lines = lines.substr(0, kKept / 2);
  make_room(lines.size());
  const std::uint64_t end = area_.end;
  for (std::size_t i = 0; i < lines.size(); ++i) area_.text[(end + i) % EventArea::kSize] = lines[i];
  area_.end = end + lines.size();
  area_.changed = std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
  news_ = true;
  changed_condition_.notify_all();
}

/// Drops the oldest lines when there would be too much.
void EventLog::make_room(std::size_t size) {
  const std::uint64_t end = area_.end;
  if (end + size - area_.first <= kKept) return;
  std::uint64_t first = end - std::min<std::uint64_t>(end - area_.first, kLeft);
  while (first < end && area_.text[(first + EventArea::kSize - 1) % EventArea::kSize] != '\n') ++first;
  area_.first = first;
}

std::string EventLog::copy(std::uint64_t offset, std::size_t size) const {
  std::string part;
  const std::uint64_t end = std::min<std::uint64_t>(area_.end, offset + size);
  if (offset < end) part.reserve(end - offset);
  for (std::uint64_t at = offset; at < end; ++at) part.push_back(area_.text[at % EventArea::kSize]);
  return part;
}

std::uint64_t EventLog::size() const { return area_.end; }

WallTime EventLog::changed() const {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(std::chrono::nanoseconds(area_.changed.load())));
}

void EventLog::note_poll(std::uint64_t number) {
  if (number == 0) return;
  MutexLock lock(mutex_);
  std::atomic<std::uint64_t>* free = nullptr;
  for (std::atomic<std::uint64_t>& poll : area_.polls) {
    if (poll == number) return;
    if (poll == 0 && free == nullptr) free = &poll;
  }
  if (free != nullptr) *free = number;
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
      for (std::atomic<std::uint64_t>& poll : area_.polls) poll = 0;
    }
    // A waiter that has gone gets no notification; a connection that is gone is noticed elsewhere.
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
  // A reader that seeks knows where it is in the file; one that reads on stands that much further back.
  if (offset != next_) skipped_ = 0;
  if (offset + skipped_ < log_.area_.first) skipped_ = log_.area_.first - offset;
  std::string part = log_.copy(offset + skipped_, size);
  next_ = offset + part.size();
  return part;
}

bool EventLog::Reader::poll(fuse_pollhandle* waker) {
  decltype(waker_) replaced(waker);
  MutexLock lock(log_.mutex_);
  if (next_ + skipped_ < log_.area_.end) return true;
  if (replaced != nullptr) std::swap(replaced, waker_);
  return false;
}

}  // namespace berth::fuse
