#pragma once

#include <functional>
#include <optional>
#include <string>

#include "manager/backends/attempt_failure.h"
#include "manager/model/backend.h"

namespace berth::manager {

/// One try with one source, within `attempt` (whose deadline is this try's share of the time).
using TrySource = std::function<MountResult(const std::string& source, const Attempt& attempt)>;

/// Tries the sources of `spec` until one succeeds: first those whose servers answer first (order_replicas()). A try
/// gets an equal part of the time that is left, the last one all of it, so that a replica that hangs does not use up
/// the time of the others. A spec without sources is tried once: a file system with its type as the source, as is the
/// custom for tmpfs, a command with "". What was passed over is in the result.
MountResult try_sources(const ShareSpec& spec, const Attempt& attempt, const TrySource& try_source);

/// What all backends have in common whose real mount sits at the berth.
///
/// Threading, errors: as Backend.
class BerthBackend : public Backend {
 public:
  MountResult mount(const ShareSpec& spec, const Attempt& attempt) final;
  Result<std::optional<RealMount>> find(const ShareSpec& spec, const Attempt& attempt) final;
  Result<bool> is_there(const Attempt& attempt) final;
  Result<> unmount(const ShareSpec& spec, RealMount& mount, const Attempt& attempt, bool force) final;

  /// Mounts one of the sources. A failure leaves nothing.
  virtual MountResult mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) = 0;

 protected:
  /// Takes the mount off the berth, without force; the server holds no descriptor in it any more. umount2(2) unless
  /// overridden.
  virtual Result<> take_off(const ShareSpec& spec, const RealMount& mount, const Attempt& attempt);
};

/// Puts a mount that is attached nowhere on the berth. Its descriptor becomes the root.
Result<RealMount> attach_at_berth(UniqueFd mount, const std::string& source, const std::string& berth);

struct MountAtBerth {
  RealMount mount;         ///< without a helper
  bool is_served = false;  ///< a program serves it (is_served_type())
};
/// The mount at the berth, if there is one.
Result<std::optional<MountAtBerth>> find_at_berth(const ShareSpec& spec, const std::string& berth);

/// Whether a file system of this type (as in mountinfo) keeps its files in memory alone, so that they are gone with it.
bool is_memory_type(std::string_view type) noexcept;

/// Whether anything is mounted at `berth`; where the mount table cannot be read, the answer is yes.
bool is_mounted(const std::string& berth);

/// Attempt::make_group(); empty: none.
UniqueFd group_of(const Attempt& attempt);

/// Detaches whatever is mounted at `berth`, after a failed attempt.
void clear_berth(const std::string& berth) noexcept;

/// Waits until `fd` is readable; false at `deadline`, or when `hurry_fd` is readable (-1: never).
bool wait_readable(int fd, TimePoint deadline, int hurry_fd = -1) noexcept;
/// Whether it is now; false for -1.
bool is_readable(int fd) noexcept;

/// The present time, by the clock that deadlines are measured in.
TimePoint now() noexcept;

}  // namespace berth::manager
