#pragma once

namespace berth::sys {

/// Gives back what a process that will mostly sleep has in memory and does not need there: free heap (malloc_trim(3)), and
/// of the program and its libraries what nobody writes to, which the page cache gives back when it is used again
/// (MADV_DONTNEED, madvise(2)).
void release_idle_memory() noexcept;

}  // namespace berth::sys
