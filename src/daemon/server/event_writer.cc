#include "src/daemon/server/event_writer.h"

#include <utility>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/sys/thread.h"

namespace berth::daemon {
namespace {

using Kind = manager::Event::Kind;

/// Whether any user can cause it as often as it likes.
bool can_any_user_cause(const manager::Event& event) {
  switch (event.kind) {
    case Kind::kMounting:
    case Kind::kMounted:
    case Kind::kMountFailed:
    case Kind::kUnmounting:
    case Kind::kUnmounted:
    case Kind::kUnmountFailed:
    case Kind::kNative:
    case Kind::kProxied:
    case Kind::kLost:
    case Kind::kStalled:
    case Kind::kAnswers:
    case Kind::kPassedOver:
    case Kind::kWarning:
      return !event.share.empty();
    case Kind::kAttached:
    case Kind::kDetached:
    case Kind::kRestored:
    case Kind::kStateDamaged:
    case Kind::kDraining:
    case Kind::kDrained:
    case Kind::kResumed:
      return false;
  }
  return false;
}

}  // namespace

void EventWriter::begin() {
  if (Result<std::thread> thread = sys::start_thread("berth-writer", [this] { run(); })) thread_ = std::move(*thread);
}

EventWriter::~EventWriter() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void EventWriter::write(const manager::Event& event) {
  if (can_any_user_cause(event) && !may_write(event.share, std::chrono::steady_clock::now())) return;
  sinks_.log(event);
  sinks_.events(event);
}

void EventWriter::write_output(const std::string& share, std::string_view lines) {
  if (may_write(share, std::chrono::steady_clock::now())) sinks_.output(share, lines);
}

bool EventWriter::may_write(const std::string& share, TimePoint now) {
  MutexLock lock(mutex_);
  OfShare& of_share = shares_[share];
  // Nothing else is written before the count, so that the count stands where the gap is.
  if (of_share.left_out == 0 && of_share.rate.take(now) && all_.take(now)) return true;
  ++of_share.left_out;
  if (!std::exchange(has_left_out_, true)) changed_.notify_all();
  return false;
}

void EventWriter::write_counts() {
  std::vector<std::pair<std::string, std::uint64_t>> counts;
  {
    MutexLock lock(mutex_);
    for (auto& [share, of_share] : shares_) {
      if (of_share.left_out > 0) counts.emplace_back(share, std::exchange(of_share.left_out, 0));
    }
    has_left_out_ = false;
  }
  const auto tell_count = [this](const std::string& share, std::uint64_t count, const std::string& whose) {
    const manager::Event event{
        .when = std::chrono::system_clock::now(),
        .kind = Kind::kWarning,
        .share = share,
        .reason = std::to_string(count) + " events or lines of " + whose + " were left out: too many at once"};
    sinks_.log(event);
    sinks_.events(event);
  };
  if (counts.size() > kMostCounts) {
    std::uint64_t all = 0;
    for (const auto& [share, count] : counts) all += count;
    return tell_count("", all, std::to_string(counts.size()) + " shares");
  }
  for (const auto& [share, count] : counts) tell_count(share, count, "this share");
}

void EventWriter::run() {
  for (;;) {
    bool stopped = false;
    {
      MutexLock lock(mutex_);
      while (!has_left_out_ && !stopped_) changed_.wait(mutex_);
      const TimePoint until = std::chrono::steady_clock::now() + kCountAfter;
      while (!stopped_ && changed_.wait_until(mutex_, until)) {
      }
      stopped = stopped_;
    }
    write_counts();
    if (stopped) return;
  }
}

}  // namespace berth::daemon
