#pragma once

#include "manager/model/share_spec.h"

namespace berth::manager {

/// Whether the files of a share are this host's own: mounting it asks no server, and no program that asks one.
[[nodiscard]] bool is_of_this_host(const ShareSpec& spec) noexcept;

}  // namespace berth::manager
