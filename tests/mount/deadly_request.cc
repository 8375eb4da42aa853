// For LD_PRELOAD: a berth that crashes over the making of a directory "abort" or "fault".
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

extern "C" [[gnu::visibility("default")]] int mkdirat(int directory, const char* name, mode_t mode) noexcept {
  if (std::strcmp(name, "abort") == 0) std::abort();
  if (std::strcmp(name, "fault") == 0) __builtin_trap();
  return static_cast<int>(::syscall(SYS_mkdirat, directory, name, mode));
}
