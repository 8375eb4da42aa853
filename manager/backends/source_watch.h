#pragma once

#include <vector>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// Reports when a directory may have been removed or replaced: when one has gone from the directory that it is in
/// (inotify(7)). A mount of a removed directory shows it empty, and the kernel reports the end of a directory only
/// after its last user.
///
/// Threading: one thread.
class SourceWatch {
 public:
  /// `left`: the descriptor() of an earlier one, whose numbers stay valid; or empty.
  static Result<SourceWatch> make(UniqueFd left);

  /// Readable when take() has something to report.
  [[nodiscard]] int descriptor() const noexcept { return events_.get(); }
  /// Watches a directory; a number, the same for the same directory. Errors: inotify_add_watch(2)'s.
  Result<int> add(int directory) noexcept;
  void remove(int number) noexcept;
  /// The numbers of directories from which a directory has gone; kAll among them when the kernel has lost count.
  std::vector<int> take();
  static constexpr int kAll = -1;

 private:
  explicit SourceWatch(UniqueFd events) noexcept : events_(std::move(events)) {}
  UniqueFd events_;
};

}  // namespace berth::manager
