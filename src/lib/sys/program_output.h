#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// What a program wrote into a pipe: all of it, or its beginning and its end.
class ProgramOutput {
 public:
  /// Is shown all that is read, as it comes.
  using Sink = std::function<void(std::string_view)>;

  /// `pipe`: a non-blocking reading end.
  ProgramOutput(UniqueFd pipe, std::size_t kept) : pipe_(std::move(pipe)), kept_(kept) {}

  /// From here on what is read is not kept, but goes there.
  void give_to(Sink sink) { sink_ = std::move(sink); }

  /// Reads what is there, at most a pipe full.
  void read_available();
  /// Whole lines if something had to be dropped, and how much that was in their midst.
  [[nodiscard]] std::string text() const;
  /// Whether that is all that was read.
  [[nodiscard]] bool is_whole() const noexcept { return dropped_ == 0; }

  /// The pipe, for another reader; empty when no program can write any more.
  UniqueFd take_pipe() noexcept { return std::exchange(ended_, true) ? UniqueFd() : std::move(pipe_); }

  /// -1 when no process can write any more: poll(2) looks at no such descriptor.
  [[nodiscard]] int pipe() const noexcept;

 private:
  void append(const char* bytes, std::size_t count);

  UniqueFd pipe_;
  std::size_t kept_;
  Sink sink_;
  std::string head_;  ///< a quarter of what is kept
  std::string tail_;
  std::size_t dropped_ = 0;  ///< bytes between the two
  bool ended_ = false;
};

}  // namespace berth::sys
