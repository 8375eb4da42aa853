#include "src/daemon/native/native_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "src/lib/sys/time_left.h"

namespace berth::daemon {
namespace {

/// A request as it is sent: this, then the directory, then the share's name.
struct RequestHeader {
  NativeRequest::Kind kind;
  manager::NativeAccess::When when;
  std::uint16_t directory_length;
  std::uint16_t share_length;
  std::uint64_t namespace_mount;
  std::uint64_t overmount_id;
};
struct AnswerHeader {
  int code;
  std::uint32_t text_length;
  std::uint64_t value;
  std::uint64_t unique;
};
constexpr std::size_t kLongestText = 2048;  // beyond the longest share name
constexpr std::size_t kLongestRequest = sizeof(RequestHeader) + PATH_MAX + manager::kMaxShareName;

/// Room for the descriptors that go along: the talk's, and a mount's.
union DescriptorRoom {
  cmsghdr header;
  std::array<char, CMSG_SPACE(2 * sizeof(int))> bytes;
};

Result<std::pair<UniqueFd, UniqueFd>> make_sockets() noexcept {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno();
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

void put_descriptors(msghdr& message, DescriptorRoom& room, int talk, int mount) {
  const std::array<int, 2> descriptors{talk, mount};
  const std::size_t size = (mount >= 0 ? 2 : 1) * sizeof(int);
  message.msg_control = room.bytes.data();
  message.msg_controllen = CMSG_SPACE(size);
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(header), descriptors.data(), size);
}

std::pair<UniqueFd, UniqueFd> take_descriptors(msghdr& message) {
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return {};
  std::array<int, 2> descriptors{-1, -1};
  std::memcpy(descriptors.data(), CMSG_DATA(header),
              std::min<std::size_t>(header->cmsg_len - CMSG_LEN(0), sizeof descriptors));
  return {UniqueFd(descriptors[0]), UniqueFd(descriptors[1])};
}

}  // namespace

Result<std::optional<NativeAnswer>> NativeCall::next(TimePoint deadline) const {
  for (;;) {
    pollfd ready{socket_.get(), POLLIN, 0};
    const int count = ::poll(&ready, 1, sys::poll_timeout(deadline));
    if (count == 0) return fail(ETIMEDOUT, "the agent in the host's mount namespace does not answer");
    if (count > 0) break;
    if (errno != EINTR) return fail_errno();
  }
  AnswerHeader header{};
  std::array<char, kLongestText> text;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by recvmsg
  std::array<iovec, 2> parts{{{&header, sizeof header}, {text.data(), text.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  if (got < 0 && errno != ECONNRESET) return fail_errno();
  if (got < static_cast<ssize_t>(sizeof header)) return std::nullopt;
  const std::size_t length = std::min<std::size_t>(header.text_length, static_cast<std::size_t>(got) - sizeof header);
  return NativeAnswer{header.code, header.value, std::string(text.data(), length), header.unique};
}

Result<NativeAnswer> NativeCall::expect(TimePoint deadline) const {
  std::optional<NativeAnswer> answer = TRY(next(deadline));
  if (!answer) return fail(ECONNRESET, "the agent in the host's mount namespace has ended");
  if (answer->code != 0) return fail(answer->code, answer->text);
  return *std::move(answer);
}

bool NativeCall::answer(const NativeAnswer& answer) const {
  AnswerHeader header{answer.code, static_cast<std::uint32_t>(std::min(answer.text.size(), kLongestText)), answer.value,
                      answer.unique};
  std::array<iovec, 2> parts{
      {{&header, sizeof header}, {const_cast<char*>(answer.text.data()), header.text_length}}};  // only read by sendmsg
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  return ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) >= 0;
}

Result<std::pair<NativeChannel, NativeChannel>> NativeChannel::make_pair() noexcept {
  auto [servers, agents] = TRY(make_sockets());
  return std::pair(NativeChannel(std::move(servers)), NativeChannel(std::move(agents)));
}

Result<NativeCall> NativeChannel::ask(const NativeRequest& request, const UniqueFd& mount) const {
  auto [ours, theirs] = TRY(make_sockets());
  if (request.directory.size() > PATH_MAX || request.share.size() > manager::kMaxShareName) return fail(ENAMETOOLONG);
  RequestHeader header{request.kind,
                       request.when,
                       static_cast<std::uint16_t>(request.directory.size()),
                       static_cast<std::uint16_t>(request.share.size()),
                       request.namespace_mount,
                       request.overmount_id};
  std::string text = request.directory + request.share;
  std::array<iovec, 2> parts{{{&header, sizeof header}, {text.data(), text.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  DescriptorRoom room{};
  put_descriptors(message, room, theirs.get(), mount ? mount.get() : -1);
  // Full when the agent has been away for long: not to be waited for here.
  if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    return fail(errno == EAGAIN ? ETIMEDOUT : errno, "cannot ask the agent in the host's mount namespace");
  }
  return NativeCall(std::move(ours));
}

Result<NativeChannel::Received> NativeChannel::receive() const {
  std::array<char, kLongestRequest> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by recvmsg
  iovec part{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  DescriptorRoom room{};
  message.msg_control = room.bytes.data();
  message.msg_controllen = room.bytes.size();
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  if (got < 0) return fail_errno();
  if (got == 0) return fail(EPIPE);
  auto [talk, mount] = take_descriptors(message);
  RequestHeader header{};
  if (static_cast<std::size_t>(got) < sizeof header || !talk) return fail(EBADMSG);
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::string_view text(bytes.data() + sizeof header, static_cast<std::size_t>(got) - sizeof header);
  if (text.size() != std::size_t{header.directory_length} + header.share_length) return fail(EBADMSG);
  NativeRequest request{header.kind,
                        header.when,
                        header.namespace_mount,
                        header.overmount_id,
                        std::string(text.substr(0, header.directory_length)),
                        std::string(text.substr(header.directory_length))};
  return Received{std::move(request), std::move(mount), NativeCall(std::move(talk))};
}

}  // namespace berth::daemon
