#pragma once

#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "src/cli/command.h"

namespace berth::cli {

/// Understands the arguments of berth, without the program's name. Paths are made absolute; defaults that depend on
/// what is there (the configuration) are left empty.
tl::expected<Command, NoCommand> parse(const std::vector<std::string>& arguments);

}  // namespace berth::cli
