#pragma once

#include <fmt/core.h>

#include <span>
#include <string_view>
#include <utility>

#include "src/lib/log/journal.h"

namespace berth::log {

enum class Level { kDebug, kInfo, kWarning, kError };

/// Where lines go: standard error, with time and level for people; to the journal, with fields, when standard error is
/// the journal (JOURNAL_STREAM, systemd.exec(5)), and as "<6>message" (sd-daemon(3)) what it does not take at
/// `journal`. Colours on a terminal only, never with NO_COLOR (https://no-color.org). Before it, and without it, lines
/// from kInfo up are written. Call it while there is one thread.
///
/// No line waits for its reader (output.h): a line that finds no room is dropped, and the next one reports how many
/// were.
void start(Level threshold, std::string_view journal = kJournalSocket);

/// Standard error is another file from now on (dup2(2)). Threading: any thread.
void adopt_standard_error();

/// Whether standard error is the journal's socket: JOURNAL_STREAM is "DEVICE:INODE" of it (systemd.exec(5)). Compared
/// and not just believed, for the variable is inherited by programs whose standard error went elsewhere.
[[nodiscard]] bool stderr_is_journal();

/// Whether lines of this level are written at all.
[[nodiscard]] bool enabled(Level level) noexcept;

/// One line; names in it are quoted by the caller (base/text.h quote()). The lines of a message with line ends stay
/// recognisable as its continuation. `fields` are for the journal alone. Threading: any thread.
void write(Level level, std::string_view message, std::span<const Field> fields = {});

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kDebug)) write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kInfo)) write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kWarning)) write(Level::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kError)) write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace berth::log
