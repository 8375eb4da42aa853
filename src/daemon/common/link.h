#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// The messages between keeper and server, one packet each. A link whose other end is gone reads as ended.
struct Message {
  enum class Kind : std::uint8_t {
    kReady,     ///< server: the kernel has sent INIT, the namespace answers
    kCounts,    ///< server: shares and mounted shares, for the service manager
    kStop,      ///< keeper: stop, with patience
    kForce,     ///< keeper: stop at once
    kUpgrade,   ///< server: a caller asks for another binary in the keeper's place
    kRefused,   ///< keeper: that binary cannot take over; the log has the reason
    kStopping,  ///< server: it stops
    kAccepted,  ///< keeper: that binary takes over, and the server is ended next
    kReplace,   ///< server: another one is to take over, for this one has memory that only its end frees
    kEnding,    ///< keeper: for that, the server is ended next
    kReload,    ///< keeper: KeptDaemon::reload_wanted has grown
    kAnswered,  ///< server: it has answered, after kAccepted or kEnding, what would be lost with it
    kAsk,       ///< keeper: does the server work?
    kWorks,     ///< server: it does
  };
  Kind kind = Kind::kReady;
  std::uint32_t shares = 0;
  std::uint32_t mounted = 0;
};

/// One end of the conversation between keeper and server (a SOCK_SEQPACKET pair, unix(7)).
///
/// Threading: send() from any thread, receive() from one.
class Link {
 public:
  static Result<std::pair<Link, Link>> make_pair() noexcept;

  /// An end that an earlier keeper has made.
  static Link of_descriptor(int socket) noexcept { return Link(UniqueFd(socket)); }

  /// Readable when there is a message, or when the other end is gone.
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  /// Does not block; a message that finds no room or no reader is dropped.
  void send(const Message& message) const noexcept;
  /// The next message; absent when the other end is gone. Errors: EAGAIN when there is none yet.
  Result<std::optional<Message>> receive() const noexcept;

 private:
  explicit Link(UniqueFd socket) noexcept : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace berth::daemon
