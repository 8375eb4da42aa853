#pragma once

#include <string>
#include <string_view>

#include "manager/model/share_spec.h"

namespace berth::manager {

/// Whether the files of a share are this host's own: mounting it asks no server, and no program that asks one.
[[nodiscard]] bool is_of_this_host(const ShareSpec& spec) noexcept;

/// ShareSpec::why_with_berth() of a share that is made of these.
[[nodiscard]] std::string_view why_with_berth(ShareKind kind, const std::string& type, const MountOptions& options,
                                              const SharePolicy& policy);

}  // namespace berth::manager
