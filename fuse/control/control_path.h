#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manager/engine/manager.h"

namespace berth::fuse {

/// A path in the control tree, by what it is about.
///
/// The path need not exist: shares and attachments come and go.
struct ControlPath {
  enum class Kind : std::uint8_t {
    kRoot,
    kVersion,
    kStatus,
    kStatusJson,
    kEvents,
    kMetrics,
    kControl,
    kReload,
    kReloadDryRun,
    kSources,
    kPrefix,  ///< `shares`, and the directories in it above shares
    kShare,   ///< a share's directory; below it:
    kShareState,
    kShareStatus,
    kShareStatusJson,
    kShareError,
    kShareUsers,
    kShareLog,
    kShareControl,
    kAttachments,
    kInstance,
    kVolume,
    kAttached,  ///< in the directory of a volume
  };
  Kind kind = Kind::kRoot;
  std::string share;     ///< its name; kPrefix: what the names of shares in it begin with, without the last '/'
  std::string instance;  ///< kInstance, kVolume, kAttached
  std::string volume;    ///< kVolume, kAttached

  friend bool operator==(const ControlPath&, const ControlPath&) = default;
};

[[nodiscard]] bool is_directory(ControlPath::Kind kind) noexcept;
/// A file that takes writes.
[[nodiscard]] bool is_control(ControlPath::Kind kind) noexcept;
/// A file for root and the control group alone: programs name the files of their users in a log, and a mistake in the
/// configuration or of a source is quoted.
[[nodiscard]] bool is_private(ControlPath::Kind kind) noexcept;
/// Whether the path is about one share: it is there only as long as that is.
[[nodiscard]] bool is_of_share(ControlPath::Kind kind) noexcept;

/// The path below `.berth`, "" for the root. No two paths have the same.
[[nodiscard]] std::string to_string(const ControlPath& path);

/// A name in a directory of the tree.
struct ControlName {
  std::string name;
  ControlPath::Kind kind;
};

/// The path of `name` in `parent`, of those that are there by themselves: all but instances and volumes.
[[nodiscard]] std::optional<ControlPath> find_child(const ControlPath& parent, std::string_view name,
                                                    const manager::Manager::Directory& shares);

/// The names in `directory`, as find_child() would find them.
[[nodiscard]] std::vector<ControlName> list_children(const ControlPath& directory,
                                                     const manager::Manager::Directory& shares);

}  // namespace berth::fuse
