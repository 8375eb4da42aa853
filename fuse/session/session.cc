#include "fuse/session/session.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "fuse/session/dispatch.h"
#include "fuse/session/this_request.h"
#include "fuse/wire/opcode.h"
#include "fuse/wire/protocol.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"

namespace berth::fuse {

namespace {

/// What is asked of the kernel where it offers it.
constexpr unsigned kWanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_ATOMIC_O_TRUNC |
                             FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                             FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_IOCTL_DIR;
/// What libfuse may ask for by itself and the session cannot keep: splicing (requests come as memory), the first way to
/// end set-id bits (for every caller; by the second they end where the file system below ends them), a cache of writes
/// (others write to shares too).
constexpr unsigned kUnwanted = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                               FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_EXPORT_SUPPORT;

/// What is added to the INIT answer where the kernel offered it: libfuse 3.14 has no way to ask.
constexpr std::uint32_t kPatchedIn = FUSE_PARALLEL_DIROPS | FUSE_ABORT_ERROR | FUSE_HANDLE_KILLPRIV_V2;

/// How many file systems may lie on each other where files are registered as backing files: berth, and below it those
/// that lie on no other. With one more, no overlay could lie over a share.
constexpr std::uint32_t kStackDepth = 1;

/// Errors of a write to a connection that is gone: no caller waits for the answer any more.
bool is_gone(int code) noexcept {
  return code == ENODEV || code == ECONNABORTED || code == EPIPE || code == ECONNRESET || code == ENOTCONN;
}

__attribute__((format(printf, 2, 0))) void log_of_libfuse(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  const int length = std::vsnprintf(line, sizeof line, format, arguments);
  if (length <= 0) return;
  std::string_view text(line, std::min(static_cast<std::size_t>(length), sizeof line - 1));
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  const log::Level ours = level <= FUSE_LOG_ERR       ? log::Level::kError
                          : level <= FUSE_LOG_WARNING ? log::Level::kWarning
                                                      : log::Level::kDebug;
  try {
    log::write(ours, "libfuse: " + escape(text));
  } catch (...) {
    // No exception may cross libfuse; a line is lost.
  }
}

Result<> to_result(int negative_errno) noexcept {
  if (negative_errno == 0 || negative_errno == -ENOENT) return {};
  return fail(-negative_errno);
}

}  // namespace

struct SessionAccess {
  static ssize_t write(int fd, iovec* parts, int count, void* session) {
    return static_cast<Session*>(session)->send(fd, parts, count);
  }
  // libfuse requires one and never calls it: requests come in through process().
  static ssize_t read(int, void*, std::size_t, void*) {
    errno = EIO;
    return -1;
  }
  static void init(void* session, fuse_conn_info* connection) { static_cast<Session*>(session)->on_init(*connection); }
};

void Session::Destroy::operator()(fuse_session* session) const noexcept { fuse_session_destroy(session); }

Result<std::unique_ptr<Session>> Session::make(UniqueFd device, const Router& router, const SessionOptions& options,
                                               SessionRecord* record) {
  fuse_set_log_func(&log_of_libfuse);
  std::unique_ptr<Session> session(new Session(router, options, record));
  fuse_lowlevel_ops table = dispatch_table();
  table.init = &SessionAccess::init;

  char name[] = "berth";
  char* arguments[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  session->session_.reset(fuse_session_new(&args, &table, sizeof table, session.get()));
  fuse_opt_free_args(&args);
  if (session->session_ == nullptr) return fail(ENOMEM, "libfuse could not make a session");

  fuse_custom_io io{};
  io.writev = &SessionAccess::write;
  io.read = &SessionAccess::read;
  const int answer = fuse_session_custom_io(session->session_.get(), &io, device.get());
  if (answer != 0) return fail(-answer, "libfuse refused the FUSE device");
  session->device_ = device.release();
  return session;
}

Session::~Session() = default;

Lane* Session::lane_of(NodeId node, std::uint32_t opcode) const {
  const Operations* const owner = router_.find(node);
  // A request for statx(2) is one for attributes (disguise()).
  return owner != nullptr ? owner->lane_of(node, opcode == protocol::kStatx ? std::uint32_t{FUSE_GETATTR} : opcode)
                          : nullptr;
}

void Session::note_lost_pages(NodeId node) const {
  if (Operations* const owner = router_.find(node); owner != nullptr) owner->note_lost_pages(node);
}

std::size_t Session::buffer_size() const noexcept {
  return std::max<std::size_t>(options_.max_write + protocol::kHeaderRoom, FUSE_MIN_READ_BUFFER);
}

void Session::process(const protocol::Message& message) noexcept {
  const fuse_in_header& header = message.header;
  if (header.len != message.bytes.size() || header.len < sizeof header) return;
  if (header.opcode == FUSE_INIT && !ready()) note_init(message);
  if (header.opcode == FUSE_INTERRUPT && in_flight_.interrupt(protocol::interrupted_by(message.bytes))) return;
  map_unknown_opcodes(message);
  fuse_buf buffer{};
  buffer.size = message.bytes.size();
  buffer.mem = message.bytes.data();
  fuse_session_process_buf(session_.get(), &buffer);
}

void Session::note_init(const protocol::Message& message) noexcept {
  const std::span<const char> bytes = message.bytes;
  const std::span<const char> body = bytes.subspan(sizeof message.header);
  fuse_init_in init{};
  std::memcpy(&init, body.data(), std::min(sizeof init, body.size()));
  init_request_ = message.header.unique;
  offered_ = init.flags;
  offered_more_ = (init.flags & FUSE_INIT_EXT) != 0 ? init.flags2 : 0;
  if (record_ == nullptr || record_->init_size != 0 || bytes.size() > sizeof record_->init) return;
  std::memcpy(record_->init, bytes.data(), bytes.size());
  record_->init_size = static_cast<std::uint32_t>(bytes.size());
}

bool Session::take_over() noexcept {
  if (record_ == nullptr || record_->init_size == 0) return false;
  alignas(std::uint64_t) char init[SessionRecord::kMaxInit];
  const std::size_t size = std::min<std::size_t>(record_->init_size, sizeof init);
  std::memcpy(init, record_->init, size);
  // A real answer: it may be the very request that the predecessor died over. If not, the kernel has forgotten it
  // and answers ENOENT.
  process(protocol::Message({init, size}));
  return true;
}

bool Session::is_awaited(int device, std::uint64_t unique) noexcept {
  // The answer to an interrupt of the request, by which the kernel finds it and does nothing (fuse_dev_do_write()).
  constexpr std::uint64_t kInterrupt = 1;
  for (const std::uint64_t resent : {std::uint64_t{0}, protocol::kUniqueResend}) {
    const fuse_out_header answer{.len = sizeof(fuse_out_header), .error = 0, .unique = unique | resent | kInterrupt};
    if (::write(device, &answer, sizeof answer) >= 0 || errno != ENOENT) return true;
  }
  return false;
}

void Session::fail_unanswered(std::uint64_t unique) noexcept {
  const fuse_out_header answer{.len = sizeof(fuse_out_header), .error = -EIO, .unique = unique};
  if (::write(device_, &answer, sizeof answer) < 0) return;
}

void Session::answer(std::uint64_t unique, int error, std::span<const char> body) noexcept {
  if (error != 0) body = {};
  fuse_out_header header{
      .len = static_cast<std::uint32_t>(sizeof header + body.size()), .error = -error, .unique = unique};
  iovec parts[2] = {{&header, sizeof header}, {const_cast<char*>(body.data()), body.size()}};
  while (::writev(device_, parts, body.empty() ? 1 : 2) < 0 && errno == EINTR) {
  }
}

void Session::refuse_deadly(const protocol::Message& message) noexcept {
  const fuse_in_header& header = message.header;
  log::error("a request has killed several servers and fails with EIO: {} of node {}, by process {} of user {}",
             name_of_opcode(header.opcode), header.nodeid, header.pid, header.uid);
  fail_unanswered(header.unique);
}

void Session::wake_poller(std::uint64_t number) noexcept {
  fuse_out_header header{.len = sizeof(fuse_out_header) + sizeof number, .error = FUSE_NOTIFY_POLL, .unique = 0};
  iovec parts[2] = {{&header, sizeof header}, {&number, sizeof number}};
  // A caller that does not wait any more need not be woken.
  if (::writev(device_, parts, 2) < 0) return;
}

Result<> Session::request_resend() noexcept {
  const fuse_out_header notification{.len = sizeof(fuse_out_header), .error = protocol::kNotifyResend, .unique = 0};
  if (::write(device_, &notification, sizeof notification) < 0) return fail_errno();
  return {};
}

void Session::on_init(fuse_conn_info& connection) noexcept {
  connection.want |= connection.capable & kWanted;
  connection.want &= ~kUnwanted;
  connection.max_write = static_cast<unsigned>(std::min<std::size_t>(connection.max_write, options_.max_write));
  connection.max_background = options_.max_background;
}

ssize_t Session::send(int fd, iovec* parts, int count) noexcept {
  if (!ready()) [[unlikely]]
    return send_first(fd, parts, count);
  if (!this_request::may_answer(static_cast<const fuse_out_header*>(parts[0].iov_base)->unique)) {
    errno = ENOENT;
    return -1;
  }
  for (;;) {
    crash_point("answer-ready");
    const ssize_t sent = ::writev(fd, parts, count);
    crash_point("answer-sent");
    if (sent >= 0) return sent;
    if (errno == EINTR) continue;
    // libfuse complains on standard error about all but ENOENT, its word for an answer that no caller waits for.
    if (is_gone(errno)) errno = ENOENT;
    return -1;
  }
}

ssize_t Session::send_first(int fd, iovec* parts, int count) noexcept {
  const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
  if (header->unique != init_request_ || header->error != 0) return ::writev(fd, parts, count);
  protocol::InitAnswer answer{};
  // libfuse sends its own copy of the structure, which is as long as this one or shorter.
  const bool known =
      count == 2 && parts[1].iov_len >= FUSE_COMPAT_22_INIT_OUT_SIZE && parts[1].iov_len <= sizeof answer;
  iovec patched[2] = {parts[0], {&answer, parts[1].iov_len}};
  if (known) {
    std::memcpy(&answer, parts[1].iov_base, parts[1].iov_len);
    add_to(answer, parts[1].iov_len == sizeof answer);
  }
  // Before it is sent, for the next request may be handled on another thread right after.
  ready_.store(true, std::memory_order_release);
  return known ? send(fd, patched, 2) : send(fd, parts, count);
}

/// `whole`: the kernel is new enough to be sent all of it.
void Session::add_to(protocol::InitAnswer& answer, bool whole) noexcept {
  answer.flags |= offered_ & kPatchedIn;
  if (!whole || options_.passthrough == nullptr || (offered_more_ & protocol::kInitPassthrough) == 0) return;
  answer.flags |= FUSE_INIT_EXT;
  answer.flags2 |= protocol::kInitPassthrough;
  answer.max_stack_depth = kStackDepth;
  options_.passthrough->enable(device_);
}

Result<> Session::prune(std::span<const NodeId> nodes) noexcept {
  static_assert(sizeof(NodeId) == sizeof(std::uint64_t));
  protocol::PruneNotification what{.count = static_cast<std::uint32_t>(nodes.size()), .padding = 0, .spare = 0};
  fuse_out_header header{.len = static_cast<std::uint32_t>(sizeof header + sizeof what + nodes.size_bytes()),
                         .error = protocol::kNotifyPrune,
                         .unique = 0};
  iovec parts[3] = {
      {&header, sizeof header}, {&what, sizeof what}, {const_cast<NodeId*>(nodes.data()), nodes.size_bytes()}};
  if (::writev(device_, parts, 3) >= 0 || is_gone(errno)) return {};
  return fail_errno();
}

Result<> Session::invalidate_node(NodeId node, off_t offset, off_t length) noexcept {
  return to_result(fuse_lowlevel_notify_inval_inode(session_.get(), node, offset, length));
}

Result<> Session::invalidate_name(NodeId directory, const std::string& name) noexcept {
  return to_result(fuse_lowlevel_notify_inval_entry(session_.get(), directory, name.c_str(), name.size()));
}

}  // namespace berth::fuse
