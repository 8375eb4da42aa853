#include "src/cli/progress.h"

#include <fmt/format.h>
#include <signal.h>

#include <system_error>
#include <utility>

#include "src/lib/base/clock.h"
#include "src/lib/base/text.h"

namespace berth::cli {

namespace {

// "Erase in line": back to the first column, and nothing left of what stood there (console_codes(4)).
constexpr std::string_view kWipe = "\r\033[K";

}  // namespace

Progress::Progress(const World& world, std::string what, const Span& span) : world_(world), what_(std::move(what)) {
  if (!span.from.empty()) what_.append(" from ").append(span.from);
  if (span.limit.count() > 0) of_ = " of " + format_duration(span.limit);
  if (!world_.err_is_terminal) return;
  // Signals are for the thread that waits: its system call is to end with EINTR.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] { show(); });
  } catch (const std::system_error&) {
    // No thread to be had: the command is worth more than its progress.
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Progress::~Progress() {
  if (!thread_.joinable()) return;
  {
    const MutexLock lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Progress::show() {
  const TimePoint start = SystemClock().now();
  TimePoint next = start;
  bool shown = false;
  while (true) {
    next += world_.progress_interval;
    {
      const MutexLock lock(mutex_);
      while (!over_ && changed_.wait_until(mutex_, next)) {
      }
      if (over_) break;
    }
    const auto waited = std::chrono::duration_cast<std::chrono::seconds>(SystemClock().now() - start);
    world_.err(fmt::format("{}{} ... {} s{}", kWipe, what_, waited.count(), of_));
    shown = true;
  }
  if (shown) world_.err(kWipe);
}

}  // namespace berth::cli
