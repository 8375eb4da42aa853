#pragma once

#include <linux/fuse.h>
#include <sys/types.h>

#include <cstdint>
#include <span>

/// The ids of a connection that belongs to another user namespace than the server: that of the host, where fusermount3
/// has mounted it for an ordinary user, while the server is root in a user namespace that has this one user. The kernel
/// sends and takes ids of the connection's user namespace (fs/fuse/dev.c, fc->user_ns). Without set_outer_ids() they
/// are the server's.
///
/// Threading: set_outer_ids() before the first request; all else from any thread.
namespace berth::fuse {

/// What the server's user 0 and group 0 are there.
void set_outer_ids(uid_t user, gid_t group) noexcept;

/// Puts the server's ids into the header of a request that was read; ids that the server does not have become kNoId.
void make_inner(std::span<char> message) noexcept;
[[nodiscard]] uid_t inner_user(uid_t user) noexcept;
[[nodiscard]] gid_t inner_group(gid_t group) noexcept;
[[nodiscard]] uid_t outer_user(uid_t user) noexcept;
[[nodiscard]] gid_t outer_group(gid_t group) noexcept;

/// /proc/sys/kernel/overflowuid, as the kernel is built.
inline constexpr std::uint32_t kNoId = 65534;

}  // namespace berth::fuse
