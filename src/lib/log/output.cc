#include "src/lib/log/output.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "src/lib/base/unique_fd.h"

namespace berth::log {

void Output::adopt() noexcept {
  in_line_ = false;
  kind_ = Kind::kFile;
  struct stat what {};
  if (::fstat(STDERR_FILENO, &what) != 0) return;
  if (S_ISSOCK(what.st_mode)) kind_ = Kind::kSocket;
  if (!S_ISFIFO(what.st_mode) && !S_ISCHR(what.st_mode)) return;
  // O_NONBLOCK belongs to the open file description, which the shell shares with berth. So this makes one of berth's
  // own.
  const UniqueFd again(::open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  kind_ = again && ::dup2(again.get(), STDERR_FILENO) >= 0 ? Kind::kNonBlocking : Kind::kBlocking;
}

/// At most PIPE_BUF bytes, which a pipe takes whole or not at all (pipe(7)).
bool Output::write_part(std::string_view part) const noexcept {
  ssize_t written = -1;
  do {
    if (kind_ == Kind::kSocket) {
      written = ::send(STDERR_FILENO, part.data(), part.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      continue;
    }
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    if (kind_ == Kind::kBlocking && ::poll(&room, 1, 0) != 1) return false;
    written = ::write(STDERR_FILENO, part.data(), part.size());
  } while (written < 0 && errno == EINTR);
  return written == static_cast<ssize_t>(part.size());
}

bool Output::write(std::string_view line) noexcept {
  bool written = !in_line_ || write_part("\n");
  if (written) in_line_ = false;
  while (written && !line.empty()) {
    const std::string_view part = line.substr(0, PIPE_BUF);
    written = write_part(part);
    // A terminal may have taken a few bytes of what it did not take whole.
    in_line_ = !written || !part.ends_with('\n');
    line.remove_prefix(part.size());
  }
  if (!written) ++dropped_;
  return written;
}

}  // namespace berth::log
