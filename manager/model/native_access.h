#pragma once

#include <cstdint>

#include "manager/model/share.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"

namespace berth::manager {

/// Lays the real mounts of shares over the directories at which everybody sees the shares, so that the kernel leads
/// straight into them, and takes them off again (access = "native"). The real mount at the berth stays as it is.
///
/// Threading: any pool thread; one call at a time for each share. Calls may block until their deadline.
class NativeAccess {
 public:
  virtual ~NativeAccess() = default;

  /// Lays a clone of the mount that `root` is the root of over the directory of `share`. Done already is done.
  /// Errors: EAGAIN when this is a bad moment, for a caller is about to walk to a second place in the share in one system
  /// call and must not find it elsewhere, or a file is open for writing through berth (Share::writers()); EBUSY when the
  /// mount would hide something; whatever else says that it does not work here. The story says which.
  virtual Result<> overmount(const Share& share, int root, TimePoint deadline) = 0;

  /// On what condition it is taken off.
  enum class When : std::uint8_t {
    kUntouched,  ///< nobody has touched it since this was asked last (umount2(2), MNT_EXPIRE)
    kUnused,     ///< nobody is in it
    kAlways,     ///< who is in it stays, in a mount to which no path leads any more (MNT_DETACH)
  };
  enum class Outcome : std::uint8_t {
    kOff,      ///< it is off, or was not there
    kTouched,  ///< kUntouched: nobody is in it, but somebody was since the last time; asked again, it counts from now
    kInUse,    ///< somebody is in it
  };
  virtual Result<Outcome> remove_overmount(const Share& share, When when, TimePoint deadline) = 0;
};

}  // namespace berth::manager
