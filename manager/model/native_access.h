#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "manager/model/share.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"

namespace berth::manager {

/// Overmounts the directories at which all programs see the shares with the shares' real mounts, so that the kernel
/// leads straight into them, and removes the overmounts again (access = "native"). The real mount at the berth stays as
/// it is.
///
/// Threading: any pool thread; one call at a time for each share. Calls may block until their deadline.
class NativeAccess {
 public:
  virtual ~NativeAccess() = default;

  /// Overmounts the directory of `share` with a clone of the mount that `root` is the root of, and says so
  /// (Share::set_overmounted()). Done already is done.
  /// - EAGAIN: not now. A caller is about to walk to a second path in the share in one system call and must not find it
  ///   elsewhere, or a file is open for writing through berth (Share::writers()).
  /// - EBUSY: the overmount would hide something. Any other error: it does not work here. The story has the reason.
  /// Answers what the overmount is called in count_users(); no mount ever has the same number again.
  virtual Result<std::uint64_t> overmount(Share& share, int root, TimePoint deadline) = 0;

  /// On which condition the overmount is removed.
  enum class When : std::uint8_t {
    kUntouched,  ///< no process is in it, and none has opened anything in it since the last such request
    kUnused,     ///< no process is in it
    kAlways,     ///< processes in it stay, in a mount to which no path leads any more (MNT_DETACH)
  };
  enum class Outcome : std::uint8_t {
    kOff,      ///< it is removed, or was not there
    kTouched,  ///< kUntouched: no process is in it, but one may have been; asked again, it counts from now
    kInUse,    ///< a process is in it
  };
  virtual Result<Outcome> remove_overmount(const Share& share, When when, TimePoint deadline) = 0;

  /// The processes in some overmounts: with a directory, an open file or a mapping.
  struct Users {
    std::vector<std::size_t> in;  ///< how many are in each
    std::string unseen = {};      ///< which ones could not be looked at, in words; "": none
  };
  /// Also of an overmount to which no path leads any more. A user whose processes have too much open or mapped, or hold
  /// up the look, is not counted. It may take some seconds. Errors: EAGAIN, not known now.
  virtual Result<Users> count_users(const std::vector<std::uint64_t>& overmounts) = 0;

  /// A share whose real mount has been unmounted.
  struct Unmounted {
    std::string share;
    std::uint64_t device = 0;  ///< of its file system, as stat(2) tells it; 0: that is not the share's alone
  };
  /// What still has each of them mounted all the same, in words: a process with a mount namespace of its own, or the
  /// host at another place; "": nothing that is seen. It may take a second.
  virtual Result<std::vector<std::string>> find_holders(const std::vector<Unmounted>& shares) = 0;
};

}  // namespace berth::manager
