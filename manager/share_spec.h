#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.h"

namespace berth::manager {

/// How a share's real mount is made.
enum class ShareKind : std::uint8_t {
  kDir,         ///< a local directory shown as it is: nothing is mounted
  kBind,        ///< a bind mount of a local directory
  kFilesystem,  ///< anything mount(8) knows: by system calls where the kernel can alone, else through mount(8)
  kCommand,     ///< a helper program that serves until it is told to stop
};

/// Whether programs reach the share through berth's proxy or walk straight into the real mount.
enum class Access : std::uint8_t { kAuto, kProxy, kNative };

/// The settings that every share has, with the documented defaults.
struct SharePolicy {
  std::chrono::milliseconds idle_timeout{std::chrono::minutes(5)};     ///< unmounted after this long without a lease; 0: at once
  std::chrono::milliseconds mount_timeout{std::chrono::seconds(30)};   ///< a mount that takes longer has failed
  std::chrono::milliseconds unmount_timeout{std::chrono::seconds(30)};
  std::chrono::milliseconds stall_timeout{std::chrono::seconds(10)};
  std::chrono::milliseconds attr_timeout{std::chrono::seconds(1)};     ///< how long the kernel may believe attributes and names
  Access access = Access::kAuto;
  bool read_only = false;
  bool allow_suid = false;               ///< false: the real mount is nosuid
  bool allow_devices = false;            ///< false: the real mount is nodev
  std::vector<uid_t> allow_users;        ///< with allow_groups: who may go in; both empty: everybody
  std::vector<gid_t> allow_groups;
  uid_t owner = 0;                       ///< of the share's directory until its real root is known
  gid_t group = 0;
  mode_t mode = 0755;

  friend bool operator==(const SharePolicy&, const SharePolicy&) = default;
};

/// What a configuration says about a share, not yet checked.
struct ShareFields {
  std::string name;
  std::string type;                          ///< "dir", "bind", "command", or a file system type as in mount(8) -t
  std::vector<std::string> sources;          ///< replicas, tried in order
  std::string options;                       ///< as in mount(8) -o
  std::vector<std::string> mount_command;    ///< kCommand: argv; "{mountpoint}" and "{source}" stand for themselves
  std::vector<std::string> unmount_command;  ///< kCommand: argv that asks it to end; empty: SIGTERM
  SharePolicy policy;
  std::string origin;                        ///< where it was read: "/etc/berth/berth.toml:12", for messages

  friend bool operator==(const ShareFields&, const ShareFields&) = default;
};

/// A share that can be mounted: name, type, sources, options, policy. An invalid one cannot be made, it never changes.
class ShareSpec {
 public:
  /// Errors: EINVAL with a story that names the share, the key and what to do.
  static Result<ShareSpec> make(ShareFields fields);

  [[nodiscard]] const std::string& name() const noexcept { return fields_.name; }
  [[nodiscard]] const std::string& type() const noexcept { return fields_.type; }
  [[nodiscard]] ShareKind kind() const noexcept { return kind_; }
  [[nodiscard]] const std::vector<std::string>& sources() const noexcept { return fields_.sources; }
  [[nodiscard]] const std::string& options() const noexcept { return fields_.options; }
  [[nodiscard]] const std::vector<std::string>& mount_command() const noexcept { return fields_.mount_command; }
  [[nodiscard]] const std::vector<std::string>& unmount_command() const noexcept { return fields_.unmount_command; }
  [[nodiscard]] const SharePolicy& policy() const noexcept { return fields_.policy; }
  [[nodiscard]] const std::string& origin() const noexcept { return fields_.origin; }

  friend bool operator==(const ShareSpec&, const ShareSpec&) = default;

 private:
  ShareSpec(ShareFields fields, ShareKind kind) : fields_(std::move(fields)), kind_(kind) {}
  ShareFields fields_;
  ShareKind kind_;
};

/// Longest share name, in bytes; each component is at most 255 (NAME_MAX).
inline constexpr std::size_t kMaxShareName = 1023;

/// Whether `name` can name a share: relative, components of 1 to 255 bytes that are not "." or "..", no control
/// characters, not ".berth" first.
/// Errors: EINVAL, ENAMETOOLONG with a story.
Result<> check_share_name(std::string_view name);

}  // namespace berth::manager
