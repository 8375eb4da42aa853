#include "src/daemon/common/background.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "src/lib/log/log.h"

namespace berth::daemon {

Result<std::optional<int>> Background::daemonize() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno();
  const UniqueFd from_child(ends[0]);
  UniqueFd to_caller(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail(Error::last().within("cannot go to the background"));
  if (child == 0) {
    caller_ = std::move(to_caller);
    return std::nullopt;
  }
  to_caller.reset();
  char byte = 0;
  ssize_t got = 0;
  do got = ::read(from_child.get(), &byte, 1);
  while (got < 0 && errno == EINTR);
  if (got == 1) return EXIT_SUCCESS;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

void Background::ready() noexcept {
  if (!caller_) return;
  ::setsid();
  let_go_of_terminal();
  const char byte = 1;
  if (::write(caller_.get(), &byte, 1) < 0) {
  }  // the caller was killed meanwhile: there is none to notify
  // In one step: the server, which shares the table, must not get its number (sys::occupy_copied_descriptors()).
  ::dup3(STDIN_FILENO, caller_.release(), O_CLOEXEC);
}

void let_go_of_terminal() noexcept {
  const UniqueFd nowhere(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nowhere) return;
  ::dup2(nowhere.get(), STDIN_FILENO);
  ::dup2(nowhere.get(), STDOUT_FILENO);
  if (log::stderr_is_journal()) return;
  ::dup2(nowhere.get(), STDERR_FILENO);
  log::adopt_standard_error();
}

}  // namespace berth::daemon
