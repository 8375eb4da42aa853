#pragma once

#include <cstdint>
#include <string_view>

namespace berth::log {

/// Standard error, written to without waiting for what reads it.
///
/// A reader that stops (a pager, a terminal after Ctrl-S, a journal that hangs) must not stop the daemon. A line that
/// finds no room is dropped and counted. A pipe or a terminal is opened again, non-blocking, under the same number, so
/// that other programs that have it open see no change; a socket is written to with MSG_DONTWAIT. A regular file is
/// written to as it is.
///
/// Errors: none. A pipe that nothing reads any more, or a full disk, costs lines. The process must ignore SIGPIPE.
/// Threading: one thread at a time.
class Output {
 public:
  /// Looks at what standard error is now.
  void adopt() noexcept;
  /// Writes a line, with its line end. False when it was dropped, or a part of it.
  bool write(std::string_view line) noexcept;
  /// Lines that were dropped since the last forget_dropped().
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }
  void forget_dropped() noexcept { dropped_ = 0; }

 private:
  enum class Kind : std::uint8_t {
    kFile,
    kSocket,
    kNonBlocking,
    kBlocking,  ///< a pipe that could not be opened again
  };
  [[nodiscard]] bool write_part(std::string_view part) const noexcept;

  Kind kind_ = Kind::kFile;
  bool in_line_ = false;  ///< a line was cut: what comes next begins a new one
  std::uint64_t dropped_ = 0;
};

}  // namespace berth::log
