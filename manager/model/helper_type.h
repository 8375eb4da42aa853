#pragma once

#include <string_view>

namespace berth::manager {

/// "fuse" of "fuse" and of "fuse.sshfs"; "" when the type is no FUSE type.
std::string_view fuse_family(std::string_view type) noexcept;

/// Whether no kernel mounts `type` without a program: a mount helper or a FUSE server, whether or not it is installed.
bool is_helper_type(std::string_view type) noexcept;

}  // namespace berth::manager
