#pragma once

#include <cstdint>

#include "src/lib/base/clock.h"

namespace berth::manager {

/// A namespace that shows which programs were started in it. A program leaves its parent, its process group and its
/// session easily, but stays in its namespaces.
struct ProgramNamespace {
  const char* kind;      ///< as in /proc/PID/ns: "mnt", "uts"
  std::uint64_t number;  ///< of that kind it is the only one while a process or a descriptor is in it
};

/// The number of an open namespace (stat(2) st_ino); 0: it is none.
std::uint64_t namespace_number(int descriptor) noexcept;

/// Whether any process of the server's pid namespace is in it.
bool has_processes(const ProgramNamespace& of);

/// Ends all of them but the calling one: SIGTERM, then SIGKILL at `deadline` or when `hurry_fd` is readable (-1:
/// never). Blocks until they have ended, or cannot. The caller has a descriptor of the namespace, so that the number
/// cannot become another one's.
void end_processes(const ProgramNamespace& of, TimePoint deadline, int hurry_fd = -1) noexcept;

}  // namespace berth::manager
