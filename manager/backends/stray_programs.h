#pragma once

#include <string>

namespace berth::manager {

/// Ends the programs that a dead manager has started to mount at `berth`, with their process groups, and takes
/// off what they have mounted. There is no record of them: they are known by the berth in their arguments, and by
/// the server's pid namespace.
void end_stray_programs(const std::string& berth) noexcept;

}  // namespace berth::manager
