#pragma once

#include <string_view>

#include "manager/model/share_spec.h"

namespace berth::manager {

/// How a share of `type` is mounted: "dir", "bind" and "command" are berth's own; all others are types of mount(8).
ShareKind kind_of(std::string_view type) noexcept;

}  // namespace berth::manager
