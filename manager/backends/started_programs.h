#pragma once

#include <memory>

#include "manager/model/backend.h"

namespace berth::manager {

/// The programs that the calling thread starts from now on, with what those start: all that an unmount runs.
///
/// They take the mount off in the server's mount namespace. So they cannot have one of their own, as the programs of an
/// attempt to mount have (AttemptNamespace). They have a UTS namespace of their own instead (uts_namespaces(7)), which
/// changes nothing that they see. The thread stays in it.
/// Null where the kernel gives none (user.max_uts_namespaces).
std::unique_ptr<AttemptPrograms> begin_started_programs();

/// Those that a dead server has noted. Null when the descriptor is no UTS namespace, or the server's.
std::unique_ptr<AttemptPrograms> take_over_started_programs(UniqueFd uts_namespace);

}  // namespace berth::manager
