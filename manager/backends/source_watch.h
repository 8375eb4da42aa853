#pragma once

#include <vector>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// Tells when a path may lead to another directory or file than before (inotify(7)): when a directory has gone from the
/// one that it is in, or when a directory or a symbolic link further up, or the file, was renamed, removed or replaced.
/// A mount of a removed directory shows it empty, and the kernel tells of the end of a directory only after its last
/// user. What is written to the mount of a removed image is lost.
///
/// Threading: one thread.
class SourceWatch {
 public:
  /// `left`: the descriptor() of an earlier one, whose numbers stay valid; or empty.
  static Result<SourceWatch> make(UniqueFd left);

  /// Readable when take() has something to report.
  [[nodiscard]] int descriptor() const noexcept { return events_.get(); }
  /// Watches which directories go from a directory; a number, the same for the same directory. Errors:
  /// inotify_add_watch(2)'s.
  Result<int> add(int directory) noexcept;
  /// Watches whether a directory, a symbolic link or a file is renamed or removed itself. Likewise.
  Result<int> add_way(int entry) noexcept;
  void remove(int number) noexcept;
  /// The numbers of what such a thing has happened to; kAll among them when the kernel has lost count.
  std::vector<int> take();
  static constexpr int kAll = -1;

 private:
  explicit SourceWatch(UniqueFd events) noexcept : events_(std::move(events)) {}
  UniqueFd events_;
};

}  // namespace berth::manager
