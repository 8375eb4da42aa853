#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/lib/base/result.h"

namespace berth {

/// A mount(8)-style option string, sorted into what each system call takes.
struct MountOptions {
  std::uint64_t attributes = 0;        ///< MOUNT_ATTR_* for fsmount(2), mount_setattr(2)
  std::uint64_t attributes_clear = 0;  ///< what "suid", "dev", "exec", "rw" take back
  std::vector<std::pair<std::string, std::optional<std::string>>> parameters;  ///< for fsconfig(2), in order
  bool read_only = false;                              ///< "ro": of the file system as well as of the mount
  bool bind = false, recursive_bind = false;           ///< "bind" or "rbind", "rbind"
  std::string subdirectory;                            ///< "X-mount.subdir=": what is shown of it; "": all
  bool loop = false;                                   ///< "loop"
  std::uint64_t loop_offset = 0, loop_size_limit = 0;  ///< "offset=", "sizelimit=", bytes (K, M, G suffixes)

  /// Whether they ask for a loop device.
  [[nodiscard]] bool wants_loop() const noexcept { return loop || loop_offset != 0 || loop_size_limit != 0; }

  friend bool operator==(const MountOptions&, const MountOptions&) = default;
};

/// Splits and sorts `options`. Words that do not concern the mount (nofail, noauto, _netdev, x-*, ...) are dropped, as
/// mount(8) does. Errors: EINVAL with a story, also for words that ask for what is not done here.
Result<MountOptions> parse_mount_options(std::string_view options);

/// The paths in the value of an option that takes several ("lowerdir=/a:/b"): between the colons, and without the
/// backslashes that keep a colon or a comma from separating (overlay).
std::vector<std::string> paths_in_option(std::string_view value);

}  // namespace berth
