#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// A control group for the programs of each mountpoint, so that the memory of each is its own.
///
/// A group is there while a program of its mountpoint runs, whichever server has started that. When the mount is gone
/// and a program does not end, its group is removed later, with another one.
///
/// Threading: any thread may call anything.
class ProgramGroups {
 public:
  /// The kernel has 65,535 accounts of memory for the whole host.
  static constexpr std::size_t kMost = 16384;

  /// `delegated`: the group to make them in (sys::find_delegated_group()), open longer than this. An earlier server may
  /// have left some there.
  explicit ProgramGroups(int delegated);

  /// The group for the programs that mount or unmount at `berth` (Share::berth()). Empty: there are kMost, or the
  /// kernel refuses. That is no reason not to start a program.
  UniqueFd make(std::string_view berth);
  /// A program there may have ended: the group is removed if it was the last one.
  void remove_if_empty(std::string_view berth);
  /// All programs there have ended, or are given up.
  void remove(std::string_view berth);

  /// Bytes of memory that the programs there use. Nothing where there are none, or the kernel has no account of it.
  [[nodiscard]] std::optional<std::uint64_t> memory(std::string_view berth) const;

 private:
  [[nodiscard]] bool has(const std::string& name) const;
  [[nodiscard]] bool try_remove(const std::string& name);

  const int delegated_;
  mutable Mutex mutex_;
  std::set<std::string> names_ BERTH_GUARDED_BY(mutex_);   ///< of the groups that there are
  std::deque<std::string> left_ BERTH_GUARDED_BY(mutex_);  ///< of those that may have no mount any more
};

}  // namespace berth::manager
