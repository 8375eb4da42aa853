#pragma once

#include <string>

#include "src/cli/tree.h"
#include "src/cli/world.h"
#include "src/lib/base/result.h"

namespace berth::cli {

/// `berth top`: the table of all shares on the whole terminal, read again and again, until `q` or Ctrl-C. Standard
/// input and output are the terminal.
/// Errors: those of Tree::read(), and ENOTTY for a terminal that ncurses does not know.
Result<> show_top(const Tree& tree, const World& world, const std::string& sort);

}  // namespace berth::cli
