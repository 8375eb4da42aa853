#pragma once

#include <cstdint>
#include <string>

#include "manager/model/share_spec.h"
#include "src/lib/base/mount_options.h"
#include "src/lib/base/result.h"

namespace berth::manager {

/// What a share's policy asks of its real mount: nosuid and nodev unless allowed, read-only where wanted. The policy
/// wins over the options, which may ask for more but take nothing back.

/// The options of `spec` under its policy, for mounts by system calls.
MountOptions policed_options(const ShareSpec& spec);

/// The same as the argument of `mount -o`; "" when there are none. Later words win in mount(8), so the policy is last.
std::string policed_option_words(const ShareSpec& spec);

/// The MOUNT_ATTR_* that the policy alone asks for.
std::uint64_t policy_attributes(const SharePolicy& policy) noexcept;

/// Gives the mount that `root` is the root of these MOUNT_ATTR_* as well, whatever the program that made it thought of
/// the options (mount_setattr(2), Linux 5.12). Asks no server.
Result<> enforce_attributes(int root, std::uint64_t attributes);

}  // namespace berth::manager
