#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "src/base/unique_fd.h"
#include "src/config/config.h"
#include "src/daemon/link.h"

namespace berth::daemon {

/// What the keeper hands to the server.
struct ServerSetup {
  config::Configuration configuration;
  std::string directory;       ///< where the namespace is mounted
  std::uint64_t mount_id = 0;  ///< of the namespace in the host's mount table
  UniqueFd device;             ///< the FUSE connection
  Link link;                   ///< to the keeper
  pid_t keeper = 0;
  bool background = false;  ///< let go of the terminal when ready
};

/// Where berths are made, in the server's own mount namespace. On the host it stays an empty directory.
inline constexpr const char* kBerthDirectory = "/run/berth";

/// The server: serves the namespace until it is unmounted or the keeper says stop, then takes everything down.
///
/// It is the first process of a pid namespace, so that the kernel ends every helper when it dies, and has a mount
/// namespace of its own, so that the kernel ends every real mount. Called with one thread; returns the exit code.
/// When the keeper dies it takes the namespace off the host itself.
int run_server(ServerSetup setup);

}  // namespace berth::daemon
