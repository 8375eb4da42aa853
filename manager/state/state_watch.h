#pragma once

#include <string>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// Tells when something goes away in the state directory, or the directory itself (inotify(7)): somebody tidies up, and what is not
/// there at the next start would be forgotten. What is moved further up is not seen.
///
/// Threading: renew() on one thread at a time, the rest on another.
class StateWatch {
 public:
  /// Watches nothing yet, or what `events` does, that of a manager before this one. Errors: EMFILE.
  static Result<StateWatch> make(std::string directory, UniqueFd events = {});

  /// Readable when there is something to look at.
  [[nodiscard]] int fd() const noexcept { return events_.get(); }
  /// Watches what is at the directory's path now. May block on the disk.
  void renew() const noexcept;
  /// Takes what is told; false: nothing that matters (a file that was never complete).
  [[nodiscard]] bool take() const noexcept;

 private:
  StateWatch(std::string directory, UniqueFd events) noexcept
      : directory_(std::move(directory)), events_(std::move(events)) {}

  std::string directory_;
  UniqueFd events_;
};

}  // namespace berth::manager
