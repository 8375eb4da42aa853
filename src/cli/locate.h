#pragma once

#include <cstdint>
#include <string>

#include "src/cli/world.h"
#include "src/lib/base/result.h"

namespace berth::cli {

enum class Purpose : std::uint8_t {
  kTalk,     ///< to talk to the berth that serves it
  kProgram,  ///< to execute a program where it is seen: one of this user's own goes before those of the host
};

/// The namespace that a command is for: `option` (--namespace), else BERTH_NAMESPACE, else the only one that the
/// calling user has mounted, else the only one of root. No trailing '/'.
/// Errors: EACCES when the caller may not read its control tree; ENOTUNIQ when there are several; ENXIO when there is
/// none, or its server is dead. All have a story. No server is touched before one namespace is chosen.
Result<std::string> locate_namespace(const std::string& option, const World& world, Purpose purpose = Purpose::kTalk);

}  // namespace berth::cli
