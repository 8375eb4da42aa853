#include "src/lib/sys/memory.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>

#include "src/lib/sys/file.h"

namespace berth::sys {
namespace {

/// Parts of the program and its libraries.
struct Segments {
  struct Range {
    void* start = nullptr;
    std::size_t size = 0;
  };
  std::array<Range, 256> ranges;
  std::size_t count = 0;
};

/// What relocations are written to is in segments that are writable, at first at least, and would come back without
/// them.
int add_segments(dl_phdr_info* object, std::size_t, void* to) {
  auto& segments = *static_cast<Segments*>(to);
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t i = 0; i < object->dlpi_phnum && segments.count < segments.ranges.size(); ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    const std::uintptr_t start = (object->dlpi_addr + segment.p_vaddr) & ~(page - 1);
    const std::uintptr_t end = object->dlpi_addr + segment.p_vaddr + segment.p_memsz;
    segments.ranges[segments.count++] = {reinterpret_cast<void*>(start), end - start};
  }
  return 0;
}

}  // namespace

/// Finds all before it gives the first back: what is looked at to find them is in them.
void release_idle_memory() noexcept {
  ::malloc_trim(0);
  Segments segments;
  ::dl_iterate_phdr(&add_segments, &segments);
  for (std::size_t i = 0; i < segments.count; ++i) {
    // Refused where it is the kernel's (the vDSO).
    ::madvise(segments.ranges[i].start, segments.ranges[i].size, MADV_DONTNEED);
  }
}

std::uint64_t resident_memory() {
  const std::string text = read_file("/proc/self/statm", 256).value_or("");
  const std::size_t blank = text.find(' ');
  std::uint64_t pages = 0;
  if (blank == std::string::npos) return 0;
  std::from_chars(text.data() + blank + 1, text.data() + text.size(), pages);
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace berth::sys
