// For LD_PRELOAD: a berth that crashes over the making of a directory "deadly".
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

extern "C" [[gnu::visibility("default")]] int mkdirat(int directory, const char* name, mode_t mode) noexcept {
  if (std::strcmp(name, "deadly") == 0) std::abort();
  return static_cast<int>(::syscall(SYS_mkdirat, directory, name, mode));
}
