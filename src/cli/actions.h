#pragma once

#include "src/cli/command.h"
#include "src/cli/tree.h"
#include "src/cli/world.h"

namespace berth::cli {

/// Executes `command` through the control tree, prints the result, and returns the exit code. Not for what Programs
/// does.
int act(const Command& command, const Tree& tree, const World& world);

/// Writes down for a watcher that no berth serves, where `command` writes for one.
void note_absence(const Command& command, const World& world);

}  // namespace berth::cli
