#pragma once

#include <string>
#include <vector>

#include "src/cli/options.h"
#include "src/cli/world.h"

namespace berth::cli {

/// Runs the command line `arguments` (argv, with the program's name first) and returns the exit code (exit_code.h).
/// Called as "mount.berth" it is mount(8)'s helper.
///
/// Threading: one thread; a second one shows progress on a terminal.
int run(const std::vector<std::string>& arguments, const World& world, const Programs& programs);

}  // namespace berth::cli
