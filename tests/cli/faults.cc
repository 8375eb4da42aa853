#include "tests/cli/faults.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string_view>

#include "src/lib/formats/control_command.h"

namespace berth::test {

namespace {

std::atomic<int> fault{0};
std::atomic<int> spare{0};
std::atomic<bool> stranger{false};

bool failed() {
  const int code = fault.load();
  if (code == 0 || spare.fetch_sub(1) > 0) return false;
  errno = code;
  return true;
}

/// Of a share or of the host.
bool is_word(std::string_view text) {
  return formats::parse_control_command(text) || formats::parse_host_command(text);
}

}  // namespace

Fault::Fault(int code, int spared) noexcept {
  spare = spared;
  fault = code;
}
Fault::~Fault() { fault = 0; }
Stranger::Stranger() noexcept { stranger = true; }
Stranger::~Stranger() { stranger = false; }

}  // namespace berth::test

// The definitions of the program stand before those of the C library.
extern "C" {

int mkdir(const char* path, mode_t mode) noexcept {
  if (berth::test::failed()) return -1;
  return static_cast<int>(::syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

ssize_t write(int fd, const void* bytes, size_t size) {
  const std::string_view text(static_cast<const char*>(bytes), size);
  if (size <= berth::formats::kMaxControlWrite && berth::test::is_word(text) && berth::test::failed()) return -1;
  return ::syscall(SYS_write, fd, bytes, size);
}

/// What is below /dead is of a namespace whose berth was killed.
int stat(const char* path, struct stat* attributes) noexcept {
  if (std::string_view(path).starts_with("/dead/")) {
    errno = ENOTCONN;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_newfstatat, AT_FDCWD, path, attributes, 0));
}

int faccessat(int directory, const char* path, int mode, int) noexcept {
  if (mode == W_OK && berth::test::stranger) {
    errno = EACCES;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_faccessat, directory, path, mode));
}
}
