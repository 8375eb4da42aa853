#include "src/lib/log/journal.h"

#include <cstddef>
#include <cstdint>

#include "src/lib/base/unique_fd.h"

namespace berth::log {
namespace {

/// "NAME=VALUE\n". A value with line ends follows its length, 64 bits little-endian, and so cannot pass for a field.
void append(std::string& entry, Field field) {
  entry += field.name;
  if (field.value.find('\n') == std::string_view::npos) {
    entry += '=';
  } else {
    constexpr unsigned kBits = 8;
    constexpr std::uint64_t kByte = 0xff;
    entry += '\n';
    for (unsigned shift = 0; shift < kBits * sizeof(std::uint64_t); shift += kBits) {
      entry += static_cast<char>((std::uint64_t{field.value.size()} >> shift) & kByte);
    }
  }
  entry += field.value;
  entry += '\n';
}

}  // namespace

Journal::Journal(std::string_view socket) noexcept {
  if (socket.empty() || socket.size() >= sizeof address_.sun_path) return;
  address_.sun_family = AF_UNIX;
  socket.copy(address_.sun_path, socket.size());
  length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket.size() + 1);
}

bool Journal::write(int priority, std::string_view message, std::span<const Field> fields) const {
  if (length_ == 0) return false;
  std::string entry;
  append(entry, {"PRIORITY", std::to_string(priority)});
  append(entry, {"SYSLOG_FACILITY", "3"});  // LOG_DAEMON
  append(entry, {"SYSLOG_IDENTIFIER", "berth"});
  append(entry, {"MESSAGE", message});
  for (const Field& field : fields) append(entry, field);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // bind(2) and its like take every kind of address through this one type.
  const auto* const address = reinterpret_cast<const sockaddr*>(&address_);
  return socket &&
         ::sendto(socket.get(), entry.data(), entry.size(), MSG_DONTWAIT | MSG_NOSIGNAL, address, length_) >= 0;
}

}  // namespace berth::log
