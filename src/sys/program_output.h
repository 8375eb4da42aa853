#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace berth::sys {

/// The end of what a program wrote into a pipe.
///
/// Threading: any thread.
class ProgramOutput {
 public:
  /// `pipe`: a non-blocking reading end.
  ProgramOutput(UniqueFd pipe, std::size_t kept) : pipe_(std::move(pipe)), kept_(kept) {}

  /// Reads what is there, at most a pipe full. False when nobody can write any more.
  bool read_available();
  /// The last lines, whole ones if something had to be dropped.
  [[nodiscard]] std::string text() const;

  /// -1 when nobody can write any more: poll(2) looks at no such descriptor.
  [[nodiscard]] int pipe() const noexcept;

 private:
  void append(const char* bytes, std::size_t count);

  const UniqueFd pipe_;
  const std::size_t kept_;
  mutable Mutex mutex_;
  std::string tail_ BERTH_GUARDED_BY(mutex_);
  bool dropped_ BERTH_GUARDED_BY(mutex_) = false;
  bool ended_ BERTH_GUARDED_BY(mutex_) = false;
};

/// Reads `output` on a thread that all share, until nobody can write any more.
Result<> read_in_background(const std::shared_ptr<ProgramOutput>& output);

}  // namespace berth::sys
