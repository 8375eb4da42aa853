#include "src/daemon/common/link.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace berth::daemon {

Result<std::pair<Link, Link>> Link::make_pair() noexcept {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) return fail_errno();
  return std::pair(Link(UniqueFd(ends[0])), Link(UniqueFd(ends[1])));
}

void Link::send(const Message& message) const noexcept {
  // Dropped when the other end is slow or gone: counts come again, and the end of the link tells the rest.
  if (::send(socket_.get(), &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
}

Result<std::optional<Message>> Link::receive() const noexcept {
  Message message;
  const ssize_t got = ::recv(socket_.get(), &message, sizeof message, MSG_DONTWAIT);
  if (got < 0) {
    if (errno == ECONNRESET) return std::nullopt;
    return fail_errno();
  }
  if (got != static_cast<ssize_t>(sizeof message)) return std::nullopt;
  return message;
}

}  // namespace berth::daemon
