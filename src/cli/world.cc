#include "src/cli/world.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace berth::cli {

namespace {

/// The whole of `text`. False when it cannot be written.
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

World real_world() {
  World world;
  world.environment = [](const char* name) -> std::optional<std::string> {
    const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): no thread sets one
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  };
  world.out = [](std::string_view text) { return write_all(STDOUT_FILENO, text); };
  world.err = [](std::string_view text) { static_cast<void>(write_all(STDERR_FILENO, text)); };
  world.out_is_terminal = ::isatty(STDOUT_FILENO) == 1;
  world.err_is_terminal = ::isatty(STDERR_FILENO) == 1;
  world.mount_table = [] { return sys::read_mount_table(); };
  return world;
}

}  // namespace berth::cli
