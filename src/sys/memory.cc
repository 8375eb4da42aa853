#include "src/sys/memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <string>

#include "src/base/text.h"
#include "src/sys/file.h"

namespace berth::sys {
namespace {

constexpr std::size_t kMapsLimit = std::size_t{1} << 20;

}  // namespace

void release_idle_memory() noexcept {
  ::malloc_trim(0);
  const Result<std::string> maps = read_file("/proc/self/maps", kMapsLimit);
  if (!maps) return;
  for (const std::string_view line : split(*maps, '\n')) {
    std::uintptr_t start = 0;
    std::uintptr_t end = 0;
    // Relocated data (r--p) was written once and would come back without its relocations.
    if (std::sscanf(std::string(line).c_str(), "%" SCNxPTR "-%" SCNxPTR " r-xp", &start, &end) != 2) continue;
    if (line.find(" r-xp ") == std::string_view::npos || line.find('/') == std::string_view::npos) continue;
    ::madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
  }
}

}  // namespace berth::sys
