#pragma once

namespace berth::sys {

/// Gives back what a process that will mostly sleep has in memory and does not need there: free heap (malloc_trim(3)) and
/// program text, which nobody writes to and the page cache gives back when it runs again (MADV_DONTNEED, madvise(2)).
///
/// Threading: while there is one thread.
void release_idle_memory() noexcept;

}  // namespace berth::sys
