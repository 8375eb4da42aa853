#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

/// The FUSE protocol as the kernel speaks it: linux/fuse.h, and here what is not in it or newer than Debian 12's (7.38).
namespace berth::fuse::protocol {

/// Room for the headers before the data of a request, in the size of a read buffer: what libfuse and the kernel reserve
/// (the kernel wants FUSE_MIN_READ_BUFFER, and max_write plus the headers of a WRITE).
inline constexpr std::size_t kHeaderRoom = 4096;

/// FUSE_NOTIFY_RESEND (7.40): the kernel sends again every request that has been read and not answered.
inline constexpr int kNotifyResend = 7;
/// FUSE_UNIQUE_RESEND (7.40): in the number of a request that is sent again.
inline constexpr std::uint64_t kUniqueResend = std::uint64_t{1} << 63;

}  // namespace berth::fuse::protocol
