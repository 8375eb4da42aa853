#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "manager/state/state_directory.h"
#include "src/config/config.h"
#include "src/daemon/common/control_groups.h"
#include "src/daemon/common/kept_daemon.h"
#include "src/daemon/common/link.h"
#include "src/daemon/common/namespace_mount.h"
#include "src/daemon/native/native_agent.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/shared_memory.h"

namespace berth::daemon {

/// What outlives the server. The descriptors are shared with it (CLONE_FILES): it may use their numbers, and what it
/// opens itself is still open when it has died.
struct ServerSetup {
  config::Configuration configuration;
  std::uint64_t configuration_number = 0;  ///< of this reading of it (ManagerSetup::configuration)
  std::string configuration_file;          ///< "": none
  config::CommandLine command_line;
  /// What a program that takes berth's place is started with: the arguments of `berth serve`, whatever berth was
  /// started as.
  std::vector<std::string> arguments;
  std::string directory;  ///< where the namespace is mounted
  NamespaceMount mount;   ///< the namespace, on the host
  int device = -1;        ///< the FUSE connection
  Link keepers_end;
  Link servers_end;
  NativeAgent agent;
  pid_t keeper_pid = 0;                       ///< as the host numbers it
  UniqueFd keeper;                            ///< pidfd of the keeper
  pid_t first_process = 0;                    ///< of the servers' pid namespace
  const sys::SharedMemory* memory = nullptr;  ///< what servers keep for their successors (KeptMemory)
  /// Where attachments are kept, locked where that was possible; nothing: in memory alone.
  std::optional<manager::StateDirectory> state;
  /// Where berths are made, in the server's own mount namespace. On the host it stays an empty directory.
  std::string berth_directory;
  int run_directory = -1;   ///< holds it
  bool background = false;  ///< let go of the terminal when ready
  ControlGroups groups;

  [[nodiscard]] KeptDaemon& record() const noexcept { return *reinterpret_cast<KeptDaemon*>(memory->data()); }
};

}  // namespace berth::daemon
