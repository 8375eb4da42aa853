#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/lib/base/clock.h"

/// The contents of the control tree, as plain values: the daemon fills them and renders them, programs parse them back.
namespace berth::formats {

/// A failed attempt, or a control write that was refused (`attempt` 0).
struct FailureView {
  WallTime when{};
  std::uint32_t attempt = 0;         ///< 1 for the first since the last success; 0: not an attempt
  std::chrono::nanoseconds took{};   ///< 0: not known
  int code = 0;                      ///< errno value that callers got
  std::string story;                 ///< in words; may be empty
  std::vector<std::string> command;  ///< argv of what ran; empty when a system call failed
  std::string exit;                  ///< "exit status 32"; empty when no program ran
  std::string output;                ///< the last lines of its standard error

  friend bool operator==(const FailureView&, const FailureView&) = default;
};

struct AttachmentView {
  std::string instance;
  std::string volume;

  friend bool operator==(const AttachmentView&, const AttachmentView&) = default;
};

/// The process that has attached, as it was then.
struct AttacherView {
  uid_t uid = 0;
  pid_t pid = 0;                  ///< 0: not known
  std::string command;            ///< empty when not known
  std::optional<WallTime> since;  ///< absent: not known

  friend bool operator==(const AttacherView&, const AttacherView&) = default;
};

/// One line of the table of all shares.
struct ShareSummary {
  std::string name;
  std::string type;
  /// "idle", "mounting", "mounted", "stalled", "draining", "expiring", "failed", "removed"
  std::string state;
  bool is_pending = false;  ///< another mount takes its place when it is not in use
  std::uint64_t users = 0;
  std::optional<WallTime> since;  ///< when the state was entered; absent: since the start
  std::string source;             ///< the mounted one, or the last that was, or the first configured
  std::string held;  ///< unmounted, but what still has the file system mounted; empty: nothing that is seen

  friend bool operator==(const ShareSummary&, const ShareSummary&) = default;
};

/// Callers that wait for an answer of a mounted share.
struct UnansweredView {
  std::uint64_t callers = 0;
  std::string operation;  ///< of the one that has waited for longest, as in linux/fuse.h; empty: no caller waits
  std::optional<WallTime> since;  ///< of that

  friend bool operator==(const UnansweredView&, const UnansweredView&) = default;
};

/// By which way a mounted share of NFS reaches its server.
struct TransportView {
  std::string address;            ///< of the server; empty: not known, as the others
  std::string protocol;           ///< "tcp", "tcp6", "udp", "rdma"
  std::string version;            ///< of NFS: "3", "4.2"
  std::uint32_t port = 0;         ///< 0: not known
  std::uint32_t connections = 0;  ///< 0: not known

  friend bool operator==(const TransportView&, const TransportView&) = default;
};

/// Everything about one share.
struct ShareView {
  std::string name;
  std::string type;
  std::string state;                 ///< as ShareSummary::state
  std::optional<WallTime> since;     ///< as ShareSummary::since
  std::string source;                ///< the one of the sources that is mounted, or was last; empty before the first
  std::vector<std::string> sources;  ///< as configured
  std::string options;
  std::string origin;         ///< "/etc/berth/berth.toml:12"
  std::uint64_t users = 0;    ///< leases: requests in flight, open files, attachments
  std::uint32_t waiting = 0;  ///< requests that wait until it is mounted
  UnansweredView unanswered;
  std::uint64_t mounts = 0;    ///< successful mounts so far
  std::uint64_t failures = 0;  ///< failed attempts so far
  std::uint64_t mount_id = 0;  ///< the kernel's; 0: none
  std::optional<TransportView> transport;
  std::string access;      ///< as configured: "auto", "proxy", "native"
  bool native = false;     ///< programs go straight into the real mount now
  std::string with_berth;  ///< why they do not; empty: they do, or will from the next access on
  pid_t helper = 0;        ///< program that serves the mount; 0: none
  std::chrono::milliseconds idle_timeout{};
  std::chrono::milliseconds mount_timeout{};
  bool stays = false;                    ///< mounted, and not to expire: it holds the only copy of its files
  std::optional<WallTime> expires_at;    ///< mounted and unused: when it will be unmounted
  std::optional<WallTime> retry_at;      ///< failed: not tried again before, unless asked to
  std::vector<std::string> pending;      ///< what will be different when it is not in use: "source: a:/x -> b:/x"
  std::vector<std::string> required;     ///< shares that are mounted before it
  std::vector<std::string> required_by;  ///< shares that are mounted, or about to be, and require this one
  std::string busy;                      ///< why the last unmount did not succeed; empty when it did
  std::string held;                      ///< as ShareSummary::held
  std::optional<FailureView> last_failure;
  std::vector<AttachmentView> attachments;

  friend bool operator==(const ShareView&, const ShareView&) = default;
};

/// A file of the state directory that could not be read, or not wholly.
struct DamageView {
  std::string file;
  std::string reason;
  std::string set_aside;  ///< where it was kept; empty: where it was

  friend bool operator==(const DamageView&, const DamageView&) = default;
};

/// Attachments of a share that is not configured.
struct UnknownShareView {
  std::string name;
  std::uint64_t attachments = 0;

  friend bool operator==(const UnknownShareView&, const UnknownShareView&) = default;
};

/// A name for which the program of a template has failed.
struct FailedLookUpView {
  std::string name;
  WallTime when{};
  int code = 0;  ///< what callers are answered
  std::string story;

  friend bool operator==(const FailedLookUpView&, const FailedLookUpView&) = default;
};

/// What is kept on disk.
struct StateView {
  std::string directory;  ///< empty: nothing is
  std::string failure;    ///< why the last change could not be recorded; empty when it could
  std::vector<DamageView> damages;
  std::vector<UnknownShareView> unknown_shares;

  friend bool operator==(const StateView&, const StateView&) = default;
};

/// Whether shares are given out.
struct HostView {
  std::string state = "up";       ///< "up", "draining", "drained", "resuming"
  std::uint64_t generation = 0;   ///< counts resumes and restarts of everything
  std::optional<WallTime> since;  ///< when it was last drained, resumed or started
  std::uint64_t operations = 0;   ///< that were begun and are not answered yet

  friend bool operator==(const HostView&, const HostView&) = default;
};

/// A share that a catalog source names and that is not shown, or not as it says.
struct WrongShareView {
  std::string share;
  std::string reason;

  friend bool operator==(const WrongShareView&, const WrongShareView&) = default;
};

/// A program that names shares (berth-source(7)).
struct SourceView {
  /// Most shares in `wrong`.
  static constexpr std::size_t kMostWrong = 64;

  std::string name;
  /// "listing": it names all shares for the first time; "synced"; "failing": it runs, and its shares may be old; "down"
  std::string state;
  std::optional<WallTime> since;   ///< when the state was entered
  std::uint64_t shares = 0;        ///< that it has named
  std::optional<WallTime> synced;  ///< when these were all shares, as far as is known; absent: never
  pid_t pid = 0;                   ///< of its program; 0: none runs
  std::uint64_t starts = 0;        ///< of its program by this server
  std::string error;               ///< what went wrong since `synced`; empty: nothing
  std::optional<WallTime> error_at;
  std::uint64_t wrong_count = 0;
  std::vector<WrongShareView> wrong;  ///< the first of these
  std::vector<std::string> program;   ///< argv
  std::string output;                 ///< the last lines of its standard error

  friend bool operator==(const SourceView&, const SourceView&) = default;
};

/// The namespace as a whole.
struct NamespaceView {
  std::string version;
  std::string directory;               ///< where the namespace is mounted
  std::vector<std::string> arguments;  ///< of `berth` that serve the same: "serve", "--config", ...
  pid_t keeper = 0;
  pid_t server = 0;
  std::uint64_t nodes = 0;      ///< files and directories that are remembered for the kernel
  std::uint64_t max_nodes = 0;  ///< more than these are let go of; 0: never
  std::optional<WallTime> started;
  HostView host;
  StateView state;
  std::vector<SourceView> sources;
  std::vector<FailedLookUpView> failed_look_ups;
  std::vector<ShareSummary> shares;

  friend bool operator==(const NamespaceView&, const NamespaceView&) = default;
};

/// A user that holds a share.
struct UserView {
  pid_t pid = 0;  ///< 0: not a process that can be seen from here, or an attachment
  uid_t uid = 0;
  std::string command;  ///< name of the process; empty when not known
  std::string kind;     ///< "file", "directory", "mapping", "attachment", "share"
  std::string
      what;  ///< path within the share, or instance/volume, or the share that requires it; empty: not for the reader to know

  friend bool operator==(const UserView&, const UserView&) = default;
};

/// What holds a share, as far as there is room for it.
struct UsersView {
  std::vector<UserView> users;
  std::uint64_t more = 0;   ///< that are not among them
  std::string unseen = {};  ///< which processes could not be looked at, in words; "": none

  friend bool operator==(const UsersView&, const UsersView&) = default;
};

/// One step in the life of a share.
struct EventView {
  WallTime when{};
  std::string kind;                 ///< "mounted", "mount-failed", ...
  std::string share;                ///< empty: it is of none
  std::uint32_t attempt = 0;        ///< 0: not an attempt
  std::chrono::nanoseconds took{};  ///< 0: not an operation that ended
  std::string reason;

  friend bool operator==(const EventView&, const EventView&) = default;
};

}  // namespace berth::formats
