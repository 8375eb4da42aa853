#include "src/lib/log/log.h"

#include <spdlog/formatter.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"
#include "src/lib/log/output.h"

namespace berth::log {
namespace {

using Buffer = spdlog::memory_buf_t;

void append(Buffer& to, std::string_view text) { to.append(text.data(), text.data() + text.size()); }

spdlog::level::level_enum to_spdlog(Level level) noexcept {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

/// `raw` with `between` in the place of each line end inside of it; what ends a line at its end is dropped. Nothing
/// that a terminal acts on, and no secret, gets further than here.
std::string lines_of(std::string_view raw, std::string_view between) {
  const std::string masked = mask_secrets(raw);
  std::string_view message = masked;
  while (message.ends_with('\n')) message.remove_suffix(1);
  std::string lines;
  bool first = true;
  for (const std::string_view line : split(message, '\n')) {
    if (!first) lines += between;
    lines += prose(line);
    first = false;
  }
  return lines;
}

/// Of syslog(3).
int priority_of(Level level) noexcept {
  switch (level) {
    case Level::kDebug:
      return 7;
    case Level::kInfo:
      return 6;
    case Level::kWarning:
      return 4;
    case Level::kError:
      return 3;
  }
  return 3;
}

/// "<6>message": the priority as the journal reads it, on every line, for a line is an entry there (sd-daemon(3)).
class JournalFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, Buffer& to) override {
    const std::string_view prefix = prefix_of(message.level);
    append(to, prefix);
    append(to, lines_of({message.payload.data(), message.payload.size()}, "\n" + std::string(prefix)));
    append(to, "\n");
  }
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JournalFormatter>();
  }

 private:
  static std::string_view prefix_of(spdlog::level::level_enum level) noexcept {
    if (level <= spdlog::level::debug) return "<7>";
    if (level == spdlog::level::info) return "<6>";
    return level == spdlog::level::warn ? "<4>" : "<3>";
  }
};

/// "2026-11-21T00:51:13.123Z info  message", the level coloured; further lines of a message are indented, so that none
/// can pass for a message of its own.
class LineFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, Buffer& to) override {
    append(to, format_time(message.time));
    append(to, " ");
    message.color_range_start = to.size();
    append(to, name_of(message.level));
    message.color_range_end = to.size();
    append(to, " ");
    append(to, lines_of({message.payload.data(), message.payload.size()}, "\n    "));
    append(to, "\n");
  }
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<LineFormatter>(); }

 private:
  static std::string_view name_of(spdlog::level::level_enum level) noexcept {
    if (level <= spdlog::level::debug) return "debug";
    if (level == spdlog::level::info) return "info ";
    return level == spdlog::level::warn ? "warn " : "error";
  }
};

bool wants_colours() {
  const char* const no_color = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  if (no_color != nullptr && *no_color != '\0') return false;
  return ::isatty(STDERR_FILENO) != 0 && terminal != nullptr && std::string_view(terminal) != "dumb";
}

/// Writes to standard error, and reports how many messages it had to drop as soon as there is room again.
class StandardError final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  StandardError(std::unique_ptr<spdlog::formatter> formatter, bool colours)
      : base_sink(std::move(formatter)), colours_(colours) {
    output_.adopt();
  }
  void adopt() {
    const std::lock_guard<std::mutex> lock(mutex_);
    output_.adopt();
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (output_.dropped() > 0) {
      const std::string story =
          std::to_string(output_.dropped()) + " messages were dropped: what reads the log does not keep up";
      if (!write(spdlog::details::log_msg("berth", spdlog::level::warn, story))) return;
      output_.forget_dropped();
    }
    write(message);
  }
  void flush_() override {}

  bool write(const spdlog::details::log_msg& message) {
    Buffer line;
    formatter_->format(message, line);
    if (!colours_ || message.color_range_end <= message.color_range_start)
      return output_.write({line.data(), line.size()});
    const std::string_view text(line.data(), line.size());
    Buffer coloured;
    append(coloured, text.substr(0, message.color_range_start));
    append(coloured, colour_of(message.level));
    append(coloured, text.substr(message.color_range_start, message.color_range_end - message.color_range_start));
    append(coloured, "\033[m");
    append(coloured, text.substr(message.color_range_end));
    return output_.write({coloured.data(), coloured.size()});
  }

  static std::string_view colour_of(spdlog::level::level_enum level) noexcept {
    if (level <= spdlog::level::debug) return "\033[36m";
    if (level == spdlog::level::info) return "\033[32m";
    return level == spdlog::level::warn ? "\033[33m\033[1m" : "\033[31m\033[1m";
  }

  const bool colours_;
  Output output_;
};

struct Logger {
  Logger(Level threshold, std::string_view journal_socket) {
    const bool is_journal = stderr_is_journal();
    std::unique_ptr<spdlog::formatter> formatter;
    if (is_journal) {
      journal.emplace(journal_socket);
      formatter = std::make_unique<JournalFormatter>();
    } else {
      formatter = std::make_unique<LineFormatter>();
    }
    sink = std::make_shared<StandardError>(std::move(formatter), !is_journal && wants_colours());
    logger = std::make_shared<spdlog::logger>("berth", sink);
    logger->set_level(to_spdlog(threshold));
  }

  std::optional<Journal> journal;
  std::shared_ptr<StandardError> sink;  ///< for what the journal does not take, too
  std::shared_ptr<spdlog::logger> logger;
};

Logger& the_logger() {
  // Never destroyed: threads that outlive main() may still log.
  static auto* const logger = new Logger(Level::kInfo, kJournalSocket);
  return *logger;
}

}  // namespace

bool stderr_is_journal() {
  const char* const stream = std::getenv("JOURNAL_STREAM");
  struct stat standard_error {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &standard_error) != 0) return false;
  return std::string_view(stream) ==
         std::to_string(standard_error.st_dev) + ":" + std::to_string(standard_error.st_ino);
}

void start(Level threshold, std::string_view journal) { the_logger() = Logger(threshold, journal); }

void adopt_standard_error() { the_logger().sink->adopt(); }

bool enabled(Level level) noexcept { return the_logger().logger->should_log(to_spdlog(level)); }

void write(Level level, std::string_view message, std::span<const Field> fields) {
  const Logger& logger = the_logger();
  if (!enabled(level)) return;
  if (logger.journal && logger.journal->write(priority_of(level), lines_of(message, "\n"), fields)) return;
  // spdlog reports its own failures on standard error and does not throw.
  logger.logger->log(to_spdlog(level), spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace berth::log
