#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// The end of what a program wrote into a pipe.
class ProgramOutput {
 public:
  /// `pipe`: a non-blocking reading end.
  ProgramOutput(UniqueFd pipe, std::size_t kept) : pipe_(std::move(pipe)), kept_(kept) {}

  /// Reads what is there, at most a pipe full.
  void read_available();
  /// The last lines, whole ones if something had to be dropped.
  [[nodiscard]] std::string text() const;

  /// -1 when nobody can write any more: poll(2) looks at no such descriptor.
  [[nodiscard]] int pipe() const noexcept;

 private:
  void append(const char* bytes, std::size_t count);

  UniqueFd pipe_;
  std::size_t kept_;
  std::string tail_;
  bool dropped_ = false;
  bool ended_ = false;
};

}  // namespace berth::sys
