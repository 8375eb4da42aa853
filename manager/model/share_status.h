#pragma once

#include <sys/types.h>

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "manager/model/backend.h"
#include "src/lib/base/clock.h"

namespace berth::manager {

/// The states of a share's life cycle (DESIGN, "The life of a share").
enum class ShareState : std::uint8_t { kIdle, kMounting, kMounted, kStalled, kDraining, kExpiring, kFailed };

/// "idle", "mounting", "mounted", "stalled", "draining", "expiring", "failed".
const char* to_string(ShareState state) noexcept;

/// A failed attempt as people read it.
struct FailureReport {
  WallTime when{};
  std::uint32_t attempt = 0;  ///< 1 for the first since the last success
  std::chrono::nanoseconds took{};
  AttemptFailure failure;
};

/// The process that has attached, as it was then.
struct Attacher {
  uid_t uid = 0;
  pid_t pid = 0;        ///< 0: not known
  std::string command;  ///< name of the process; "" when not known
  WallTime since{};     ///< the epoch: not known
};

/// A named claim on a share, kept until it is given back. Two of the same names are the same.
struct Attachment {
  std::string instance;
  std::string volume;  ///< "": no claim, but the directory of the instance, which was made before there was one
  Attacher by{};

  friend bool operator==(const Attachment& a, const Attachment& b) noexcept {
    return a.instance == b.instance && a.volume == b.volume;
  }
  friend std::strong_ordering operator<=>(const Attachment& a, const Attachment& b) noexcept {
    const std::strong_ordering instances = a.instance <=> b.instance;
    return instances != 0 ? instances : a.volume <=> b.volume;
  }
};

/// The status of a share at one moment; an immutable copy.
struct ShareStatus {
  ShareState state = ShareState::kIdle;
  std::optional<WallTime> since;  ///< when the state was entered; absent: since the start
  MountId mount_id = 0;
  std::string source;                    ///< the one of the sources that is mounted, or was last; "" before the first
  std::uint64_t mounts = 0;              ///< successful mounts so far
  std::uint64_t failures = 0;            ///< failed attempts so far
  std::uint32_t waiting = 0;             ///< requests that wait until it is mounted
  std::optional<WallTime> retry_at;      ///< kFailed: not tried again before, unless asked to
  std::optional<WallTime> expires_at;    ///< kMounted and unused: when it will be unmounted
  std::vector<std::string> pending;      ///< what will be different of its mount when it is not in use: mount_changes()
  std::vector<std::string> required_by;  ///< shares that are mounted, or about to be, and require this one; sorted
  std::string busy;                      ///< why the last unmount did not succeed; "" when it did
  /// Of one that is to go, also the users whose processes may be in it past berth, where that is not known.
  std::string held;  ///< it did, but what still has the file system mounted; "": nothing that is seen
  std::optional<FailureReport> last_failure;
  bool stays = false;  ///< kMounted: it does not expire, for it holds the only copy of its files
  /// What processes may be in past berth (NativeAccess::overmount()), also when it is off again; 0: nothing.
  std::uint64_t overmount = 0;
  bool native = false;                  ///< its directory is overmounted with its real mount
  std::string with_berth;               ///< why it is not native; "": it is, or will be at the next access
  pid_t helper = 0;                     ///< the program that serves the mount; 0: none
  std::vector<Attachment> attachments;  ///< sorted
};

}  // namespace berth::manager
