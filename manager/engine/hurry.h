#pragma once

#include <fcntl.h>
#include <sys/eventfd.h>

#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// Tells one operation, which runs on another thread, that it is to end at once. Where no descriptor is to be had it
/// tells nothing, and the operation ends at its deadline.
///
/// Threading: wanted() and fd() from any thread.
class Hurry {
 public:
  void wanted() noexcept { ::eventfd_write(event_.get(), 1); }
  /// Readable once it is wanted; -1: it cannot be told.
  [[nodiscard]] int fd() const noexcept { return event_.get(); }

  // Of the mount that it unmounts, for one that takes its place: copies of HelperProcess::process() and
  // AttemptPrograms::descriptor().
  UniqueFd helper;
  UniqueFd programs;

 private:
  const UniqueFd event_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
};

/// A copy of a descriptor; empty where there is none.
[[nodiscard]] inline UniqueFd copy_of(int descriptor) noexcept {
  return UniqueFd(descriptor < 0 ? -1 : ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
}

}  // namespace berth::manager
