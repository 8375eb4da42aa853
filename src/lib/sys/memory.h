#pragma once

#include <cstdint>

namespace berth::sys {

/// Gives back memory that a process that will mostly sleep does not need: free heap (malloc_trim(3)), and pages of the
/// program and its libraries that are never written, which the page cache gives back when they are used again
/// (MADV_DONTNEED, madvise(2)).
void release_idle_memory() noexcept;

/// Bytes of this process that are in memory; 0 when that is not known. Reads /proc as the calling thread. Source:
/// proc(5), statm.
std::uint64_t resident_memory();

}  // namespace berth::sys
