#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "fuse/kept/kept_state.h"
#include "fuse/session/in_flight.h"
#include "fuse/session/operations.h"
#include "fuse/session/passthrough.h"
#include "fuse/wire/protocol.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::fuse {

/// Finds the Operations that a node belongs to, by its owner alone (owner_of()). Each outlives the session.
struct Router {
  Operations& names;    ///< NodeOwner::kNamespace
  Operations& control;  ///< NodeOwner::kControl
  Operations& shares;   ///< NodeOwner::kShare

  /// Null for a node that no owner can have given out.
  [[nodiscard]] Operations* find(NodeId node) const noexcept {
    switch (owner_of(node)) {
      case NodeOwner::kNamespace:
        return &names;
      case NodeOwner::kControl:
        return &control;
      case NodeOwner::kShare:
        return &shares;
    }
    return nullptr;
  }
};

struct SessionOptions {
  std::size_t max_write = std::size_t{1} << 20;  ///< bytes in one WRITE, and in one READ; a multiple of the page size
  /// Asynchronous requests (read-ahead, direct I/O) that the kernel sends at once, of all shares. This is the largest
  /// value that the kernel takes: what waits for one share would hold up the others. Each share has bounds of its own
  /// (Lane).
  unsigned max_background = 65535;
  /// Enabled when the kernel agrees to it; must outlive the session. Null: it is not asked.
  Passthrough* passthrough = nullptr;
};

/// One FUSE connection: libfuse's parsing and answering over a transport of berth's, each request sent to the
/// Operations that own its node.
///
/// It is an exception barrier: if an operation throws std::bad_alloc, the answer is ENOMEM; for any other exception it
/// is EIO and an error log, and the session lives on. A rename or link between owners answers EXDEV, a node of no owner
/// ESTALE.
///
/// The INIT answer is changed on its way out, for flags that the kernel offers and libfuse 3.14 cannot ask for:
/// FUSE_PARALLEL_DIROPS (else one blocked look-up in a directory holds up every other one there) and FUSE_ABORT_ERROR
/// (tells an aborted connection from an unmounted one), FUSE_HANDLE_KILLPRIV_V2 (else each write asks for
/// security.capability first) and FUSE_PASSTHROUGH.
///
/// A session may take over the connection of a predecessor. It starts with the INIT request that the predecessor
/// recorded, and asks the kernel for the requests that the predecessor has read and not answered.
///
/// Ownership: owns the device descriptor. Every Reply is answered or dropped before the session is destroyed.
/// Threading: process() and the notifications from any thread, many at once.
class Session {
 public:
  /// `record`: outlives the session; null where there will be no successor.
  static Result<std::unique_ptr<Session>> make(UniqueFd device, const Router& router,
                                               const SessionOptions& options = {}, SessionRecord* record = nullptr);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Brings the session up by what its predecessor has recorded. Before the first process(). False: there was none.
  bool take_over() noexcept;
  /// Has the kernel send again what has been read and not answered (FUSE_NOTIFY_RESEND, Linux 6.9), after take_over().
  /// Errors: EINVAL on a kernel that cannot.
  Result<> request_resend() noexcept;

  /// Handles one request as it was read from the device. `message` starts at an address aligned for 64-bit words, is
  /// changed, and is free again when this returns. What is not a request is logged and dropped.
  void process(const protocol::Message& message) noexcept;

  /// What threads do for the kernel now.
  [[nodiscard]] InFlight& in_flight() noexcept { return in_flight_; }
  /// Answers a request past libfuse, which still has it or does not know it. One that is answered already stays so.
  void answer(std::uint64_t unique, int error, std::span<const char> body) noexcept;

  /// The device: what requests are read from.
  [[nodiscard]] int device() const noexcept { return device_; }
  /// Size of a buffer that any request fits into.
  [[nodiscard]] std::size_t buffer_size() const noexcept;
  [[nodiscard]] const Router& router() const noexcept { return router_; }
  /// Whether the kernel has sent INIT and was answered.
  [[nodiscard]] bool ready() const noexcept { return ready_.load(std::memory_order_acquire); }

  /// Whether the kernel waits for the answer to a request that a dead server has read from `device`: before
  /// request_resend().
  static bool is_awaited(int device, std::uint64_t unique) noexcept;
  /// Answers a request that a dead server has read with EIO; one that is answered already stays so.
  void fail_unanswered(std::uint64_t unique) noexcept;
  /// Answers EIO to a request, as it was read, that has killed one server after the other, and logs which request it
  /// is.
  void refuse_deadly(const protocol::Message& message) noexcept;
  /// Wakes the caller that waits in poll(2) under that number of the kernel's (FUSE_NOTIFY_POLL).
  void wake_poller(std::uint64_t number) noexcept;

  // Notifications write to the device and may wait there for a lock of the kernel's that a request of the same
  // directory holds: never from within an operation on what is notified, never under a lock. ENOENT (the kernel does
  // not know the node) and a connection that is gone are no errors.

  /// The kernel drops what it caches of these nodes where they are not in use: no open file, no working directory,
  /// nothing mounted there, nothing below. It takes no lock that a request holds. Errors: EINVAL before Linux 6.18.
  Result<> prune(std::span<const NodeId> nodes) noexcept;
  /// The kernel forgets a node's attributes and, from `offset` on, `length` bytes of cached contents (0: to the end; a
  /// negative offset: attributes alone).
  Result<> invalidate_node(NodeId node, off_t offset, off_t length) noexcept;
  /// The kernel drops the name, takes off what is mounted on it in every mount namespace, and gives back what is not in
  /// use below it. It waits for the directory's lock, which look-ups in it hold until they are answered. Errors: ENOENT
  /// when it does not know the name.
  Result<> invalidate_name(NodeId directory, const std::string& name) noexcept;

 private:
  Session(const Router& router, const SessionOptions& options, SessionRecord* record)
      : router_(router),
        options_(options),
        record_(record),
        in_flight_({.answer = [this](std::uint64_t unique, int error,
                                     std::span<const char> body) { answer(unique, error, body); },
                    .lane_of = [this](NodeId node, std::uint32_t opcode) { return lane_of(node, opcode); },
                    .note_lost_pages = [this](NodeId node) { note_lost_pages(node); }}) {}

  struct Destroy {
    void operator()(fuse_session* session) const noexcept;
  };
  friend struct SessionAccess;

  [[nodiscard]] Lane* lane_of(NodeId node, std::uint32_t opcode) const;
  void note_lost_pages(NodeId node) const;
  void note_init(const protocol::Message& message) noexcept;
  void on_init(fuse_conn_info& connection) noexcept;
  ssize_t send(int fd, iovec* parts, int count) noexcept;
  ssize_t send_first(int fd, iovec* parts, int count) noexcept;
  void add_to(protocol::InitAnswer& answer, bool whole) noexcept;

  // Constant after make().
  const Router router_;
  const SessionOptions options_;
  SessionRecord* const record_;
  int device_ = -1;  ///< owned by session_
  std::unique_ptr<fuse_session, Destroy> session_;

  // Of the thread that handles INIT; the kernel sends nothing else before it is answered.
  std::uint64_t init_request_ = 0;  ///< its unique number
  std::uint32_t offered_ = 0;       ///< FUSE_* flags (linux/fuse.h) in the kernel's INIT
  std::uint32_t offered_more_ = 0;  ///< those from the 32nd on

  // Synchronised by themselves.
  std::atomic<bool> ready_{false};
  InFlight in_flight_;
};

}  // namespace berth::fuse
