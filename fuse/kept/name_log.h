#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fuse/kept/kept_state.h"

namespace berth::fuse {

/// Adds a name at the end. False: there is no room.
bool append(NameLog& log, std::string_view name) noexcept;

/// All of them, in order.
std::vector<std::string> read_all(const NameLog& log);

}  // namespace berth::fuse
