#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <vector>

#include "src/lib/base/result.h"

namespace berth::sys {

/// The identity that a file-system operation is done with.
struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;  ///< the calling thread in the host's pid namespace; 0 when it is in one that cannot be seen from here

  friend bool operator==(const Identity&, const Identity&) = default;
};

/// Makes the calling thread act as `identity` towards file systems: effective uid and gid, and supplementary groups, of
/// this thread alone (raw setresuid(2), setresgid(2), setgroups(2)), and with them the effective capabilities
/// (capabilities(7), "Effect of user ID changes on capabilities"): a caller other than root keeps those for files
/// that it has. Real and saved ids stay the daemon's, so that the thread can come back and the caller cannot signal it.
///
/// The switch is lazy: a thread keeps the last identity until it needs another, and nothing is done when it already has
/// the right one. Code that must act as the daemon calls assume_daemon().
///
/// Supplementary groups and capabilities are those of the caller's thread (/proc/PID/status), or groups of the user
/// database (user_groups.h) when `pid` is 0 or gone; they are cached for kRightsRemembered per (pid, uid, gid). Callers
/// with uid 0 get no groups, which they do not need, and all capabilities: their own kernel has checked these. Those of
/// another user namespace count for nothing, because they are good for some files only.
///
/// Errors: EPERM when the daemon itself is not privileged and `identity` is not its own user.
Result<> assume(const Identity& identity) noexcept;

/// To be called after this thread was refused as `identity`: whether the caller has other groups or capabilities by now
/// than were cached. The next assume() takes them.
[[nodiscard]] bool refresh_rights(const Identity& identity) noexcept;

/// Back to the daemon's own identity.
void assume_daemon() noexcept;

inline constexpr std::chrono::milliseconds kRightsRemembered{1000};

/// Acts as the daemon for a scope, then as before.
class AsDaemon {
 public:
  AsDaemon() noexcept;
  ~AsDaemon();
  AsDaemon(const AsDaemon&) = delete;
  AsDaemon& operator=(const AsDaemon&) = delete;

 private:
  Identity before_;
  bool switched_;
};

/// Whether the thread's effective user id is 0, with all that the process may do; where its identity is known.
[[nodiscard]] bool acts_as_root() noexcept;

/// For a scope, this thread may hand the kernel work to be done later (a backing file of FUSE passthrough). That takes
/// CAP_SYS_ADMIN; the work is done without CAP_FSETID and with the thread's present identity. Switches nothing else:
/// no assume() inside.
class AsBackingOpener {
 public:
  AsBackingOpener() noexcept;
  ~AsBackingOpener();
  AsBackingOpener(const AsBackingOpener&) = delete;
  AsBackingOpener& operator=(const AsBackingOpener&) = delete;
};

/// For a scope, the calling thread alone has `mask` as its umask(2). Outside of any, and for good, threads have 0.
class WithUmask {
 public:
  explicit WithUmask(mode_t mask) noexcept;
  ~WithUmask();
  WithUmask(const WithUmask&) = delete;
  WithUmask& operator=(const WithUmask&) = delete;

 private:
  const bool changed_;
};

/// The supplementary groups of a caller, as assume() uses them.
std::vector<gid_t> groups_of(const Identity& identity);

}  // namespace berth::sys
