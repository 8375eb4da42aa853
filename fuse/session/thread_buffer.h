#pragma once

#include <cstddef>
#include <span>

namespace berth::fuse {

/// `size` bytes of the calling thread's own, aligned for direct I/O (to a page), valid until the thread asks again.
/// Kept for the next request; given back when the thread ends.
/// Errors: throws std::bad_alloc.
std::span<char> thread_buffer(std::size_t size);

}  // namespace berth::fuse
