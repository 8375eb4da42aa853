#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "manager/backends/program_groups.h"
#include "manager/model/backend.h"

namespace berth::manager {

/// The directory below which the private mountpoints of shares are made: `<path>/<Share::berth()>`; and the control
/// groups of the programs that mount there.
///
/// Threading: immutable. Operations on different shares may run at once; directories that shares have in common
/// ("home" of "home/a" and "home/b") are made and removed in a way that bears it.
class BerthDirectory {
 public:
  explicit BerthDirectory(std::string path, std::shared_ptr<ProgramGroups> groups = nullptr)
      : path_(std::move(path)), groups_(std::move(groups)) {}

  [[nodiscard]] std::string path_of(std::string_view share) const;

  struct Made {
    std::string path;
    bool existed = false;  ///< made by another program, or left by an attempt that is not over
  };
  /// Makes the mountpoint of a share, mode 0700. Errors: mkdir(2)'s.
  Result<Made> make(std::string_view share) const;
  /// Removes it and the directories above it that are empty now, and its control group. What is not there is no error.
  void remove(std::string_view share) const;

  /// Attempt::make_group for it; empty: there are no groups.
  [[nodiscard]] std::function<UniqueFd()> group_maker(std::string_view share) const;
  /// The programs of an attempt there may have ended.
  void remove_empty_group(std::string_view share) const;

 private:
  std::string path_;
  std::shared_ptr<ProgramGroups> groups_;
};

/// Mounts `spec` through `backend` and looks up what is true afterwards: a failed attempt whose mount is there counts
/// as mounted, with the failure as its warning; a successful one without a mount is a failure; a mount that is there
/// already is taken as it is, without an attempt. A failure leaves no directory behind.
///
/// No text of the result holds a secret of the share.
///
/// `berth`: Share::berth(). `programs`, `said`, `avoided`, `required`: as in Attempt. Blocks until `deadline` at the
/// latest, as far as the kernel lets it.
tl::expected<RealMount, AttemptFailure> perform_mount(Backend& backend, const ShareSpec& spec, std::string_view berth,
                                                      const BerthDirectory& berths, TimePoint deadline, int cancel_fd,
                                                      std::atomic<std::int32_t>* programs = nullptr,
                                                      std::function<void(std::string_view)> said = {},
                                                      const std::string& avoided = {},
                                                      const std::vector<RequiredShare>& required = {});

/// Unmounts, and removes the directory that perform_mount made. A failed attempt after which nothing is mounted counts
/// as unmounted; what another program has unmounted already is not unmounted again. The story of an error holds no
/// secret of the share.
///
/// `programs`: as in Attempt. `hurry_fd`: Attempt::cancel_fd. Nothing is unmounted any more once it is readable
/// (ECANCELED), but by force.
Result<> perform_unmount(Backend& backend, const ShareSpec& spec, std::string_view berth, RealMount& mount,
                         const BerthDirectory& berths, TimePoint deadline, int hurry_fd, bool force,
                         std::atomic<std::int32_t>* programs = nullptr);

}  // namespace berth::manager
