#include "src/cli/progress.h"

#include <fmt/format.h>

#include <utility>

#include "src/lib/base/clock.h"
#include "src/lib/base/display_width.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/thread.h"

namespace berth::cli {

namespace {

// "Erase in line": back to the first column, and nothing left of what stood there (console_codes(4)).
constexpr std::string_view kWipe = "\r\033[K";

}  // namespace

Progress::Progress(const World& world, std::string what, Span span)
    : world_(world), what_(std::move(what)), news_(std::move(span.news)) {
  if (!span.from.empty()) what_.append(" from ").append(span.from);
  if (span.limit.count() > 0) of_ = " of " + format_duration(span.limit);
  if (!world_.err_is_terminal) return;
  // Without a thread there is no progress to be seen: the command is worth more.
  if (Result<std::thread> thread = sys::start_thread("berth-progress", [this] { show(); })) {
    thread_ = *std::move(thread);
  }
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
    std::string line = fmt::format("{} ... {}{}", what_, format_duration(waited), of_);
    // A line that goes on in the next one could not be wiped.
    constexpr std::size_t kNoLimit = 1000;
    const std::size_t room = world_.err_width ? *world_.err_width - 1 : kNoLimit;
    line = cut_in_the_middle(line, room);
    const std::string news = news_ ? news_() : "";
    const std::size_t left = room - display_width(line);
    if (!news.empty() && left > 2) line.append("; ").append(cut_in_the_middle(news, left - 2));
    world_.err(std::string(kWipe) + line);
    shown = true;
  }
  if (shown) world_.err(kWipe);
}

}  // namespace berth::cli
