#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/lib/base/mount_options.h"
#include "src/lib/base/result.h"
#include "src/lib/base/secrets.h"

namespace berth::manager {

/// How a share's real mount is made.
enum class ShareKind : std::uint8_t {
  kDir,         ///< a local directory shown as it is: nothing is mounted
  kBind,        ///< a bind mount of a local directory
  kFilesystem,  ///< anything mount(8) knows: by system calls where the kernel can alone, else through mount(8)
  kCommand,     ///< a helper program that serves until it is asked to stop
};

/// Whether programs reach the share through berth's proxy or walk straight into the real mount.
enum class Access : std::uint8_t {
  kAuto,    ///< native where that is as safe as the proxy: see ShareSpec::wants_native()
  kProxy,   ///< through berth, always
  kNative,  ///< straight into the real mount wherever it can be seen
};
/// "auto", "proxy", "native".
const char* to_string(Access access) noexcept;

/// What is done about a mount whose helper is dead or whose root is gone on the server.
enum class OnStale : std::uint8_t {
  kRemount,  ///< it is taken away, and mounted again: at once where it is in use, else for the next access
  kError,    ///< it is taken away, and callers hear ESTALE until retry is asked for
};

/// Which open files are opened again in the next mount when theirs is dead.
enum class Reopen : std::uint8_t { kReadOnly, kAlways, kNever };

/// The settings that every share has, with the documented defaults.
struct SharePolicy {
  std::chrono::milliseconds idle_timeout{
      std::chrono::minutes(5)};  ///< unmounted after this long without a lease; 0: at once
  /// Whether idle_timeout was set for this share itself. By default what holds the only copy of its files does not
  /// expire.
  bool idle_timeout_is_own = false;
  std::chrono::milliseconds mount_timeout{std::chrono::seconds(30)};  ///< a mount that takes longer has failed
  std::chrono::milliseconds unmount_timeout{std::chrono::seconds(30)};
  std::chrono::milliseconds stall_timeout{std::chrono::seconds(10)};
  std::chrono::milliseconds request_timeout{
      0};  ///< a request that changes nothing is answered ETIMEDOUT then; 0: it waits
  OnStale on_stale = OnStale::kRemount;
  Reopen reopen = Reopen::kReadOnly;
  std::chrono::milliseconds attr_timeout{
      std::chrono::seconds(1)};  ///< how long the kernel may cache attributes and names
  // Of a template.
  std::chrono::milliseconds lookup_timeout{std::chrono::seconds(10)};    ///< a program that takes longer has failed
  std::chrono::milliseconds positive_timeout{std::chrono::minutes(10)};  ///< how long what a program answered holds
  std::chrono::milliseconds negative_timeout{std::chrono::minutes(1)};   ///< how long a name stays absent
  Access access = Access::kAuto;
  bool read_only = false;
  bool allow_suid = false;         ///< false: the real mount is nosuid
  bool allow_devices = false;      ///< false: the real mount is nodev
  std::vector<uid_t> allow_users;  ///< with allow_groups: users that may go in; both empty: all
  std::vector<gid_t> allow_groups;
  /// Of the sources, in their order: how long a server takes to answer counts once more for each. Empty: none has one.
  std::vector<std::uint32_t> weights;
  std::vector<std::string> required;  ///< `requires`: shares that are mounted before this one, in this order
  uid_t owner = 0;                    ///< of the share's directory until its real root is known
  gid_t group = 0;
  mode_t mode = 0755;
  bool browse = false;  ///< of a template: its keys are listed as far as its source can tell
  bool hidden = false;  ///< not listed while it is not mounted

  friend bool operator==(const SharePolicy&, const SharePolicy&) = default;
};

/// The fields of a share in a configuration, not yet checked.
struct ShareFields {
  std::string name;
  std::string type;                          ///< "dir", "bind", "command", or a file system type as in mount(8) -t
  std::vector<std::string> sources;          ///< replicas, tried in order
  std::string options;                       ///< as in mount(8) -o
  std::vector<std::string> mount_command;    ///< kCommand: argv; "{mountpoint}" and "{source}" stand for themselves
  std::vector<std::string> unmount_command;  ///< kCommand: argv that asks it to end; empty: SIGTERM
  std::vector<std::string> environment;      ///< of programs, besides the daemon's own: "NAME=value"
  std::string environment_file;              ///< more of these, read at each attempt; "": none
  /// Of a template: argv of what is asked for the share of a key; "{key}" stands for that. Empty: the template says
  /// all.
  std::vector<std::string> program;
  SharePolicy policy;
  std::string origin_file;                  ///< where it was read: "/etc/berth/berth.toml", "--share"
  std::uint32_t origin_line = 0;            ///< 0: not a line of a file
  std::vector<std::string> origin_through;  ///< other files that led to it: a map of autofs that includes `origin_file`

  friend bool operator==(const ShareFields&, const ShareFields&) = default;
};

/// What is wrong with one field of a share.
struct FieldFault {
  const char* key;     ///< as the configuration calls it: "source"; "name" for the share's name
  std::string reason;  ///< what is wrong and what to do, without the key
};

/// Keys of the fields that hold secrets: "source", "options", "mount", "unmount", "program".
std::vector<const char*> keys_with_secrets(const ShareFields& fields);

/// A share that can be mounted: name, type, sources, options, policy. An invalid one cannot be made, it never changes.
///
/// A name that ends in "/*" (or is "*") makes it a template: not a share itself, but what instantiate() makes one from.
///
/// Ownership: copies share what they hold, so a copy costs a reference. Threading: immutable.
class ShareSpec {
 public:
  /// `like`: another share that probably has much in common, with which the equal parts are kept in one copy; of
  /// thousands of shares only the name and the sources then differ. Null: none.
  /// Errors: EINVAL with a story that names the share, the keys and what to do.
  static Result<ShareSpec> make(ShareFields fields, const ShareSpec* like = nullptr);

  /// Everything that would make() refuse the fields; empty when nothing.
  static std::vector<FieldFault> faults_in(const ShareFields& fields);

  [[nodiscard]] const std::string& name() const noexcept { return own_->name; }
  [[nodiscard]] const std::string& type() const noexcept { return own_->common->type; }
  [[nodiscard]] ShareKind kind() const noexcept { return own_->common->kind; }
  [[nodiscard]] bool is_template() const noexcept { return own_->name.ends_with('*'); }
  [[nodiscard]] const std::vector<std::string>& sources() const noexcept { return own_->sources; }
  [[nodiscard]] const std::string& options() const noexcept { return own_->common->options; }
  /// The same, sorted.
  [[nodiscard]] const MountOptions& mount_options() const noexcept { return own_->common->mount_options; }
  [[nodiscard]] const std::vector<std::string>& mount_command() const noexcept { return own_->common->mount_command; }
  [[nodiscard]] const std::vector<std::string>& unmount_command() const noexcept {
    return own_->common->unmount_command;
  }
  [[nodiscard]] const std::vector<std::string>& environment() const noexcept { return own_->common->environment; }
  [[nodiscard]] const std::string& environment_file() const noexcept { return own_->common->environment_file; }
  [[nodiscard]] const std::vector<std::string>& program() const noexcept { return own_->common->program; }
  [[nodiscard]] const SharePolicy& policy() const noexcept { return own_->common->policy; }
  /// What must not be shown of it: secrets in its sources, options, commands and environment. Not what is in files.
  [[nodiscard]] Secrets secrets() const;
  /// Whether its directory is to be overmounted with its real mount. Of `auto` shares those whose file system is this
  /// host's own (a bind, an image, a disk, tmpfs, overlay): there the proxy only costs time. Not those with a server
  /// elsewhere, which may stop answering; nor where the proxy has something to do: allow_users and allow_groups, an
  /// unmount right after use.
  [[nodiscard]] bool wants_native() const { return why_with_berth().empty(); }
  /// Why it must not be native; "": it may.
  [[nodiscard]] std::string_view why_with_berth() const;
  /// Where it was read, for messages: "/etc/berth/berth.toml:12".
  [[nodiscard]] std::string origin() const;
  /// Whether it was read from one of these files, or through one.
  [[nodiscard]] bool comes_from(const std::set<std::string>& files) const;

  /// All that make() needs to make the same again.
  [[nodiscard]] ShareFields fields() const;

  /// Whether both have the same fields, wherever they were read: a share that has only moved in its file is not a new
  /// one.
  friend bool operator==(const ShareSpec& a, const ShareSpec& b);

 private:
  /// What many shares have in common.
  struct Common {
    std::string type;
    std::string options;
    MountOptions mount_options;
    std::vector<std::string> mount_command;
    std::vector<std::string> unmount_command;
    std::vector<std::string> environment;
    std::string environment_file;
    std::vector<std::string> program;
    SharePolicy policy;
    std::string origin_file;
    std::vector<std::string> origin_through;
    ShareKind kind = ShareKind::kDir;

    friend bool operator==(const Common&, const Common&) = default;
  };
  struct Own {
    std::string name;
    std::vector<std::string> sources;
    std::shared_ptr<const Common> common;
    std::uint32_t origin_line = 0;
  };
  explicit ShareSpec(std::shared_ptr<const Own> own) noexcept : own_(std::move(own)) {}
  static ShareSpec make_unchecked(ShareFields fields, const ShareSpec* like);

  std::shared_ptr<const Own> own_;
};

/// Whether one real mount serves both: type, sources, options, commands, environment and the flags of the mount are the
/// same. The rest (times, lists of users, the directory's owner and mode, `access`) is policy.
bool mounts_alike(const ShareSpec& a, const ShareSpec& b);
/// What differs of that, one line a key, without secrets: "source: nfs1:/a -> nfs2:/a". Of a key that may hold a secret
/// in the words of one side, both sides are masked.
std::vector<std::string> mount_changes(const ShareSpec& before, const ShareSpec& after);

/// The share that a template becomes for `key`, the name that was looked up: "home/*" and "alice" make "home/alice".
/// '&' in sources and in the arguments of commands stands for the key, "\&" for itself. A key that could be taken for
/// more than a name is refused: a leading '-', '/', ',', control characters, "..", '*', braces, more than 255 bytes, no
/// UTF-8, and in commands also blanks, quotes and what else a shell acts on.
/// Errors: EINVAL, ENAMETOOLONG with a story.
Result<ShareSpec> instantiate(const ShareSpec& pattern, std::string_view key);

/// The largest weight of a source.
inline constexpr std::uint32_t kMostWeight = 1'000'000;

/// Most shares that one can require.
inline constexpr std::size_t kMostRequired = 16;

/// Longest share name, in bytes; each component is at most 255 (NAME_MAX).
inline constexpr std::size_t kMaxShareName = 1023;

/// Whether `name` can name a share: relative, components of 1 to 255 bytes that are not "." or "..", no control
/// characters, valid UTF-8, no '*' (which makes a template, see ShareSpec), not ".berth" first.
/// Errors: EINVAL, ENAMETOOLONG with a story.
Result<> check_share_name(std::string_view name);

}  // namespace berth::manager
