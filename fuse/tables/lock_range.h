#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <limits>

/// Ranges of bytes in struct flock (fcntl(2)), l_whence being SEEK_SET.
namespace berth::fuse {

/// The end of a range without a length.
inline constexpr off_t kEnd = std::numeric_limits<off_t>::max();

/// The byte behind a range.
inline off_t end_of(const struct flock& range) noexcept {
  return range.l_len == 0 ? kEnd : range.l_start + range.l_len;
}

inline bool overlap(const struct flock& one, const struct flock& other) noexcept {
  return one.l_start < end_of(other) && other.l_start < end_of(one);
}

/// Whether all of `inner` is in `outer`.
inline bool covers(const struct flock& outer, const struct flock& inner) noexcept {
  return outer.l_start <= inner.l_start && end_of(inner) <= end_of(outer);
}

}  // namespace berth::fuse
