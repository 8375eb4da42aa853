#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "src/lib/base/result.h"

namespace berth::formats {

/// What can be written to a share's `control`.
enum class ControlCommand : std::uint8_t { kMount, kUnmount, kForceUnmount, kRetry, kRemount, kForceRemount };

/// What can be written to the `control` of the whole namespace.
enum class HostCommand : std::uint8_t { kDrain, kResume, kUpgrade, kReload, kReloadDryRun };

/// Most bytes that a write to a control file may have.
inline constexpr std::size_t kMaxControlWrite = 256;

/// "mount", "unmount", "force-unmount", "retry", "remount", "force-remount".
std::string_view to_string(ControlCommand command) noexcept;

/// The command that was written; white space around it is ignored.
/// Errors: EINVAL with a story that quotes what was written and lists what may be, EMSGSIZE beyond kMaxControlWrite.
Result<ControlCommand> parse_control_command(std::string_view written);

/// "drain", "resume", "upgrade", "reload", "reload-dry-run".
std::string_view to_string(HostCommand command) noexcept;

/// As parse_control_command().
Result<HostCommand> parse_host_command(std::string_view written);

}  // namespace berth::formats
