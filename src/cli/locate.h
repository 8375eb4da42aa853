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

/// The namespace that a command is for: `option` (--namespace), else BERTH_NAMESPACE, else the only mount of type
/// fuse.berth. No trailing '/'.
/// Errors: EACCES when the caller may not read its control tree; ENXIO with a story, without touching the namespace's
/// server where there is none.
Result<std::string> locate_namespace(const std::string& option, const World& world, Purpose purpose = Purpose::kTalk);

}  // namespace berth::cli
