#pragma once

#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// The control groups that berth makes below the one that the service manager has delegated to it:
///
///   berth.service
///   |-- daemon        keeper, first process, agent and servers
///   |-- questions     programs of catalog sources and of templates
///   `-- share-NAME    programs of a mount (manager::ProgramGroups)
///
/// Empty descriptors: nothing is delegated, and all are where berth was started.
struct ControlGroups {
  UniqueFd delegated;
  UniqueFd questions;
};

/// Moves this process, and what it starts from now on, to `daemon`; a group with processes of its own cannot give its
/// children accounts. Call it with one thread.
ControlGroups enter_control_groups();

}  // namespace berth::daemon
