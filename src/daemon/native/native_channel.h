#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "manager/model/native_access.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::daemon {

/// What the server asks of the agent (native_agent.h).
struct NativeRequest {
  enum class Kind : std::uint8_t {
    kOvermount,  ///< with a mount: overmounts the share, unless a mount of the same directory is there; the answer is its id
    kRemove,  ///< removes the overmount; the answer is an Outcome
    kList,    ///< names the overmounted shares, one answer each
  };
  Kind kind = Kind::kList;
  manager::NativeAccess::When when{};
  std::uint64_t namespace_mount = 0;  ///< id of the namespace's mount (mount_id_at())
  std::uint64_t overmount_id = 0;     ///< kRemove: id of the overmount, as in mountinfo
  std::string directory;              ///< of the namespace
  std::string share;
};

/// One answer. More than one may belong to a request; the end of the talk is the end of the answers.
struct NativeAnswer {
  int code = 0;              ///< errno value; 0: success
  std::uint64_t value = 0;   ///< kRemove: Outcome; kOvermount, kList: id of a mount, as in mountinfo
  std::string text;          ///< an error's story; kList: the share's name
  std::uint64_t unique = 0;  ///< kOvermount: id of the mount that no other mount will have (mount_id_at())
};

/// The messages about one request, between the server and a thread of the agent's (a SOCK_SEQPACKET pair). It has ended
/// for one side when the other side closes it.
///
/// Threading: one thread.
class NativeCall {
 public:
  explicit NativeCall(UniqueFd socket) noexcept : socket_(std::move(socket)) {}

  /// The next answer; absent when the talk is over. Errors: ETIMEDOUT.
  Result<std::optional<NativeAnswer>> next(TimePoint deadline) const;
  /// The next answer, with its error as the error. Errors: ECONNRESET when there is none.
  Result<NativeAnswer> expect(TimePoint deadline) const;

  // The agent's side.
  /// False when the server has closed its side.
  bool answer(const NativeAnswer& answer) const;

 private:
  UniqueFd socket_;
};

/// Where requests go in and come out.
///
/// Threading: any thread may ask() and receive().
class NativeChannel {
 public:
  /// One that leads nowhere.
  NativeChannel() noexcept = default;
  /// The server's end and the agent's.
  static Result<std::pair<NativeChannel, NativeChannel>> make_pair() noexcept;

  /// An end that an earlier keeper has made.
  static NativeChannel of_descriptor(int socket) noexcept { return NativeChannel(UniqueFd(socket)); }

  /// Sends a request; `mount` goes along where there is one.
  Result<NativeCall> ask(const NativeRequest& request, const UniqueFd& mount = {}) const;

  struct Received {
    NativeRequest request;
    UniqueFd mount;
    NativeCall talk;
  };
  /// The next request. Errors: EPIPE when the other end is gone; EBADMSG, to be passed over.
  Result<Received> receive() const;

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

 private:
  explicit NativeChannel(UniqueFd socket) noexcept : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace berth::daemon
