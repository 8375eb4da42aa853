#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manager/model/share_spec.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// The kernel's id of a mount (statx(2) stx_mnt_id, field 1 of mountinfo).
using MountId = std::uint64_t;

/// A helper program that serves a mount and lives as long as it (a `command` share).
class HelperProcess {
 public:
  virtual ~HelperProcess() = default;
  /// Its number in /proc, for people to see. 0: it has ended.
  [[nodiscard]] virtual pid_t pid() const noexcept = 0;
  /// A pidfd: readable when the helper has ended.
  [[nodiscard]] virtual int pidfd() const noexcept = 0;
  /// A pidfd of the program itself, and the reading end of what it writes, for a successor. -1: there is none.
  [[nodiscard]] virtual int process() const noexcept { return -1; }
  [[nodiscard]] virtual int output() const noexcept { return -1; }
  /// Ends it: SIGTERM, then SIGKILL at `deadline` or when `hurry_fd` is readable (-1: never); collects it. Blocks until
  /// it has ended.
  virtual void end(TimePoint deadline, int hurry_fd) noexcept = 0;
};

/// The programs that an attempt has started and that may still run, however they have left their parents: daemons, and
/// what those have started.
class AttemptPrograms {
 public:
  virtual ~AttemptPrograms() = default;
  /// The descriptor by which a successor finds them.
  [[nodiscard]] virtual int descriptor() const noexcept = 0;
  /// Takes the mount away from them, after the server's own is gone.
  virtual void let_go() noexcept = 0;
  /// Ends all of them: SIGTERM, then SIGKILL at `deadline` or when `hurry_fd` is readable (-1: never). Blocks until
  /// they have ended, or cannot.
  virtual void end(TimePoint deadline, int hurry_fd) noexcept = 0;
};

/// What programs of a mount write into that this server has not started as its own: daemons that one which has mounted
/// and ended left behind, or all that an earlier server has started.
class LeftOutput {
 public:
  virtual ~LeftOutput() = default;
  /// The reading end, for the server that succeeds us.
  [[nodiscard]] virtual int descriptor() const noexcept = 0;
};

/// A source that was tried before the one that is mounted, and why it is not it.
struct PassedOver {
  std::string source;
  Error error{0};
};

/// What makes a directory, or the file of an image, the one that it is: statx(2) stx_dev_major, stx_dev_minor, stx_ino.
struct SourceIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const SourceIdentity&, const SourceIdentity&) = default;
};

/// A real mount that is there, and what keeps it there.
struct RealMount {
  MountId id = 0;                             ///< 0: nothing is mounted (a `dir` share)
  UniqueFd root;                              ///< O_PATH descriptor of its root directory
  std::string source;                         ///< the one of the sources that was mounted
  std::unique_ptr<HelperProcess> helper;      ///< null unless a program serves it
  std::unique_ptr<AttemptPrograms> programs;  ///< null when none is left
  std::shared_ptr<LeftOutput> output;         ///< null when no program can write there
  std::string warning;                        ///< what went wrong although the mount is there; "" when nothing did
  /// O_PATH descriptors of the directories that a local source, or the layers of an overlay, are in.
  std::vector<UniqueFd> parents;
  /// The same of the directories and symbolic links that the walks to them go through, and of the file of an image.
  std::vector<UniqueFd> way;
  SourceIdentity identity;              ///< of that source, or of all layers
  bool holds_only_copy = false;         ///< its files are gone with it (is_memory_type())
  std::vector<PassedOver> passed_over;  ///< the sources before this one
};

/// Why an attempt failed; what the `error` file of the control tree shows.
struct AttemptFailure {
  Error error{0};                    ///< what callers are answered
  std::vector<std::string> command;  ///< argv of the program that failed; empty when a system call did
  std::string exit;                  ///< "exit status 32", "signal 9 (Killed)", "" when no program ran
  std::string output;                ///< what it wrote, bounded
};

/// A share that is mounted for another one that requires it.
struct RequiredShare {
  std::string name;
  int root = -1;  ///< O_PATH descriptor of its root directory, open while the attempt runs
};

/// What a backend may use while it works. It runs on a pool thread and may block until `deadline`.
struct Attempt {
  std::string berth;   ///< absolute path of the share's private mountpoint: an existing empty directory
  TimePoint deadline;  ///< after it the attempt has failed, whatever it does
  int cancel_fd = -1;  ///< readable when the attempt, or an unmount, must be given up at once (-1: never)
  std::atomic<std::int32_t>* programs =
      nullptr;  ///< AttemptPrograms::descriptor() is noted there while the attempt runs
  /// Is shown what programs write that have mounted, then and for as long as they serve the mount; from one thread at a
  /// time. Empty: it is dropped.
  std::function<void(std::string_view)> said = {};
  std::string avoided = {};                  ///< a source that has stopped answering: it is tried last of all
  std::vector<RequiredShare> required = {};  ///< found below the namespace's directory by what mounts
  /// Makes the control group that the share's programs are started in, where there is not one yet; empty: they are
  /// started in the server's own.
  std::function<UniqueFd()> make_group = {};
};

/// Makes and ends the real mount of one kind of share.
///
/// Threading: one object serves all shares; any pool thread may call it, for different shares at once.
/// Errors: an attempt that fails leaves nothing: no mount, no process.
class Backend {
 public:
  virtual ~Backend() = default;

  /// Mounts `spec` at `attempt.berth`.
  virtual tl::expected<RealMount, AttemptFailure> mount(const ShareSpec& spec, const Attempt& attempt) = 0;

  /// The mount at `attempt.berth`, if any. To open its root may take an answer of the share's server
  /// (nfs_weak_revalidate()).
  virtual Result<std::optional<RealMount>> find(const ShareSpec& spec, const Attempt& attempt) = 0;

  /// Whether there is one. Never asks the share's server.
  virtual Result<bool> is_there(const Attempt& attempt) = 0;

  /// Unmounts, and ends the helper. `mount` is unchanged on failure, empty after success. `force` gives up what is in
  /// use: MNT_FORCE | MNT_DETACH (umount2(2)), helper killed.
  /// Errors: EBUSY when in use, ETIMEDOUT.
  virtual Result<> unmount(const ShareSpec& spec, RealMount& mount, const Attempt& attempt, bool force) = 0;

  /// Whether `source`, or the layers of an overlay, still lead to what was mounted. May block.
  virtual bool is_current(const ShareSpec& /*spec*/, const std::string& /*source*/, const SourceIdentity& /*mounted*/) {
    return true;
  }

  /// Whether the source of what a template has made is there, as far as that can be known without mounting it. May
  /// block.
  virtual bool has_source(const ShareSpec& /*spec*/) { return true; }

  /// Everything of the share that no text may show. Blocks on the disk.
  [[nodiscard]] virtual Secrets secrets_of(const ShareSpec& spec) const { return spec.secrets(); }

  /// Whether a directory has to be there to mount on (not for `dir`).
  [[nodiscard]] virtual bool needs_berth() const noexcept { return true; }
};

}  // namespace berth::manager
