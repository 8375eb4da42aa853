#pragma once

#include <string>

#include "src/cli/world.h"
#include "src/lib/base/result.h"

namespace berth::cli {

/// The namespace that a command talks to: `option` (--namespace), else BERTH_NAMESPACE, else the only mount of type
/// fuse.berth. No trailing '/'.
/// Errors: EACCES when the caller may not read its control tree; ENXIO with a story, without touching the namespace's server where there is none.
Result<std::string> locate_namespace(const std::string& option, const World& world);

}  // namespace berth::cli
