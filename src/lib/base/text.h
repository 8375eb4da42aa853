#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// `raw` in double quotes for a log line or a message: control characters, quotes, backslashes and bytes that are not
/// UTF-8 become C escapes, so that a name can neither break a line nor forge one.
std::string quote(std::string_view raw);

/// The same without the surrounding quotes: for a field that a program splits at white space or line ends.
std::string escape(std::string_view raw);

/// Whether neither a terminal nor a reader of lines takes anything in `text` for something else than a character of its
/// line: no control characters, nothing that has no width or turns the direction of writing, nothing that is not UTF-8.
bool is_harmless(std::string_view text) noexcept;

/// `text` as it is where it is harmless, else as quote() prints it, without the quotes: for the end of a line.
std::string prose(std::string_view text);

/// `text` with what `escape` appends in the place of each character that is not harmless. `code`: of Unicode.
std::string escape_hostile(
    std::string_view text,
    const std::function<void(std::string& to, std::string_view character, char32_t code)>& escape);

/// An argv for people to read: each element bare when it is plain, quoted when it is not.
std::string quote_command(const std::vector<std::string>& argv);

/// "1.5s", "250ms", "5m", "2h30m": the shortest exact-enough form for people.
std::string format_duration(std::chrono::nanoseconds duration);

/// RFC 3339 in UTC with milliseconds: "2026-11-21T00:51:13.123Z".
std::string format_time(std::chrono::system_clock::time_point time);

/// The parts of `text` between the separators; empty parts are kept.
std::vector<std::string_view> split(std::string_view text, char separator);

/// Whether `text` is valid UTF-8 (RFC 3629).
bool is_utf8(std::string_view text) noexcept;

/// The one of `candidates` that a user most probably meant by `word`, or "" when none is near
/// (Damerau-Levenshtein distance of at most a third of the length).
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace berth
