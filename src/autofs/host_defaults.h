#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "src/autofs/lines.h"

namespace berth::autofs {

/// What the host's configuration says of all maps.
struct HostDefaults {
  std::optional<std::chrono::seconds> timeout;           ///< autofs.conf: timeout
  std::optional<std::chrono::seconds> negative_timeout;  ///< autofs.conf: negative_timeout
  std::optional<bool> browse;                            ///< autofs.conf: browse_mode
  bool append_options = true;                            ///< autofs.conf: append_options
  std::vector<Fault> faults;
  std::vector<std::string> files;  ///< that were read
};

/// Reads autofs.conf (autofs.conf(5), the section "autofs") and the line "automount:" of nsswitch.conf in `directory`,
/// which is that of the master map. A file that is not there says nothing; a source of nsswitch.conf that is not read
/// here is a fault.
HostDefaults read_host_defaults(const std::string& directory);

}  // namespace berth::autofs
