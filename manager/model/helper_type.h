#pragma once

#include <span>
#include <string_view>

namespace berth::manager {

/// "fuse" of "fuse" and of "fuse.sshfs"; "" when the type is no FUSE type.
std::string_view fuse_family(std::string_view type) noexcept;

/// Whether no kernel mounts `type` without a program: a mount helper or a FUSE server, whether or not it is installed.
bool is_helper_type(std::string_view type) noexcept;

/// The types other than "auto" and those of FUSE of which that is so.
std::span<const std::string_view> helper_types() noexcept;

}  // namespace berth::manager
