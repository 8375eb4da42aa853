#include "src/lib/base/crash_point.h"

#ifdef BERTH_CRASH_POINTS

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace berth {
namespace {

std::atomic<const char*> file{nullptr};

/// Whether that is the point where the next one is to die; if so, it is taken out of the file.
bool is_next(const char* path, const char* name) noexcept {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::array<char, 128> text{};
  const ssize_t size = ::read(fd, text.data(), text.size() - 1);
  ::close(fd);
  const std::size_t length = std::strlen(name);
  if (size <= 0 || std::strncmp(text.data(), name, length) != 0 || text[length] > ' ') return false;
  const char* const rest = text.data() + length + std::strspn(text.data() + length, " \n");
  if (*rest == '\0') return ::unlink(path) == 0;
  const int next = ::open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
  if (next < 0 || ::write(next, rest, std::strlen(rest)) < 0) return false;
  ::close(next);
  return true;
}

}  // namespace

void crash_point(const char* name) noexcept {
  const char* const path = file.load(std::memory_order_acquire);
  if (path == nullptr) return;
  const int error = errno;
  if (is_next(path, name)) ::kill(::getpid(), SIGKILL);
  errno = error;
}

void arm_crash_points() noexcept { file.store(std::getenv("BERTH_CRASH_FILE"), std::memory_order_release); }

}  // namespace berth

#endif
