#pragma once

#include <string>

namespace berth::manager {

/// Ends the programs that a manager which is dead by now has told to mount at `berth`, with their process groups, and takes
/// off what they have mounted. Nobody has written down who they are: they are known by the berth in their arguments, and by
/// our pid namespace.
void end_stray_programs(const std::string& berth) noexcept;

}  // namespace berth::manager
