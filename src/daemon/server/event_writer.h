#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "manager/model/events.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/rate.h"

namespace berth::daemon {

/// Writes the events of shares to the log and to `events`, at a bounded rate: any user can have a share mounted and
/// unmounted, and a program can write without end. What is left out is counted, and the count is written.
///
/// What only root and the group cause (attachments, drain, resume) and what concerns no share is always written.
///
/// Threading: any thread may call anything.
class EventWriter {
 public:
  struct Sinks {
    std::function<void(const manager::Event&)> log;     ///< one for the log
    std::function<void(const manager::Event&)> events;  ///< one for `events`
    std::function<void(const std::string& share, std::string_view lines)>
        output;  ///< what a program wrote, for the log
  };

  /// Of one share, events and chunks of output alike.
  static constexpr unsigned kBurst = 64;
  static constexpr std::chrono::seconds kInterval{2};
  /// Of all shares together.
  static constexpr unsigned kBurstOfAll = 8192;
  static constexpr std::chrono::milliseconds kIntervalOfAll{20};
  /// How long after something was left out the count is written at the latest.
  static constexpr std::chrono::seconds kCountAfter{10};
  /// The counts of so many shares are written one by one; of more, their sum.
  static constexpr std::size_t kMostCounts = 16;

  explicit EventWriter(Sinks sinks) : sinks_(std::move(sinks)) {}
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  /// Starts the thread that writes the counts; without it they are never written.
  void begin();
  void write(const manager::Event& event);
  void write_output(const std::string& share, std::string_view lines);

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  struct OfShare {
    Rate rate{kBurst, kInterval};
    std::uint64_t left_out = 0;
  };

  /// Whether to write an event of the share now.
  bool may_write(const std::string& share, TimePoint now);
  void write_counts();
  void run();

  const Sinks sinks_;
  Mutex mutex_;
  ConditionVariable changed_;
  Rate all_ BERTH_GUARDED_BY(mutex_){kBurstOfAll, kIntervalOfAll};
  std::map<std::string, OfShare, std::less<>> shares_ BERTH_GUARDED_BY(mutex_);
  bool has_left_out_ BERTH_GUARDED_BY(mutex_) = false;
  bool stopped_ BERTH_GUARDED_BY(mutex_) = false;
  std::thread thread_;  ///< writes the counts
};

}  // namespace berth::daemon
