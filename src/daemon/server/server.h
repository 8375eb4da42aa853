#pragma once

#include <vector>

#include "src/daemon/server/server_setup.h"

namespace berth::daemon {

/// The server: serves the namespace until it is unmounted or the keeper asks it to stop, then takes everything down and
/// exits.
///
/// It has a mount namespace of its own, which its successor enters. So no other process reaches the real mounts, and
/// the kernel ends them all when keeper and server are gone. `left`: descriptors that its predecessor opened and did
/// not close. Called in a process of its own, with one thread. When the keeper dies it ends as if it were asked to
/// stop.
[[noreturn]] void run_server(ServerSetup& setup, std::vector<int> inherited);

}  // namespace berth::daemon
