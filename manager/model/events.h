#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "src/lib/base/clock.h"

namespace berth::manager {

/// One step in the life of a share, for the log and for the `events` file.
struct Event {
  enum class Kind : std::uint8_t {
    kMounting,
    kMounted,
    kMountFailed,
    kPassedOver,  ///< a source that could not be mounted, before one that could
    kUnmounting,
    kUnmounted,
    kUnmountFailed,
    kNative,   ///< its directory is overmounted: programs go straight in
    kProxied,  ///< the overmount was removed: programs come through berth
    kLost,
    kStalled,  ///< it has not answered for stall_timeout
    kAnswers,  ///< a stalled share answers again
    kAttached,
    kDetached,
    kRestored,      ///< attachments that were on disk
    kStateDamaged,  ///< a file of the state directory; of no share, as the events below
    kDraining,      ///< the host gives out nothing any more
    kDrained,       ///< nothing is in use any more
    kResumed,       ///< the host gives out shares again, in a new generation
    kWarning,
  };
  WallTime when{};
  Kind kind{};
  std::string share;                ///< "": of none
  std::uint32_t attempt = 0;        ///< 0: not an attempt
  std::chrono::nanoseconds took{};  ///< 0: not an operation that ended
  std::string reason;               ///< why: "first access", "attachment", "idle for 5m", "mount: exit status 32: ..."
  std::string detail = {};          ///< kMountFailed: all that the program wrote, for the log
  int code = 0;                     ///< errno of what failed; 0: nothing did
};

/// "mounting", "mounted", "mount-failed", "passed-over", "unmounting", "unmounted", "unmount-failed", "native",
/// "proxied", "lost", "stalled", "answers", "attached", "detached", "restored", "state-damaged", "draining", "drained",
/// "resumed", "warning".
const char* to_string(Event::Kind kind) noexcept;

}  // namespace berth::manager
