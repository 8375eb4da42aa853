#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manager/engine/manager.h"

namespace berth::fuse {

/// A place in the control tree, by what it is about.
///
/// It says what would be there, not that it is: shares and attachments come and go.
struct Place {
  enum class Kind : std::uint8_t {
    kRoot,
    kVersion,
    kStatus,
    kStatusJson,
    kEvents,
    kControl,
    kNames,  ///< `shares`, and the directories in it above shares
    kShare,  ///< a share's directory; below it:
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
  std::string share;     ///< its name; kNames: what the names of shares in it begin with, without the last '/'
  std::string instance;  ///< kInstance, kVolume, kAttached
  std::string volume;    ///< kVolume, kAttached

  friend bool operator==(const Place&, const Place&) = default;
};

[[nodiscard]] bool is_directory(Place::Kind kind) noexcept;
/// A file that takes writes.
[[nodiscard]] bool is_control(Place::Kind kind) noexcept;
/// Whether the place is about one share: it is there only as long as that is.
[[nodiscard]] bool is_of_share(Place::Kind kind) noexcept;

/// The path below `.berth`, "" for the root. No two places have the same.
[[nodiscard]] std::string path_of(const Place& place);

/// A name in a directory of the tree.
struct PlaceName {
  std::string name;
  Place::Kind kind;
};

/// The place of `name` in `parent`, of those that are there by themselves: all but instances and volumes.
[[nodiscard]] std::optional<Place> find_child(const Place& parent, std::string_view name,
                                              const manager::Manager::Directory& shares);

/// The names in `directory`, as find_child() would find them.
[[nodiscard]] std::vector<PlaceName> list_children(const Place& directory, const manager::Manager::Directory& shares);

}  // namespace berth::fuse
