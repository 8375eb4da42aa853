#include "fuse/session/reply.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <memory>
#include <tuple>
#include <utility>

#include "fuse/session/exception_barrier.h"
#include "fuse/session/outer_ids.h"
#include "fuse/session/session.h"
#include "fuse/session/this_request.h"
#include "fuse/wire/protocol.h"
#include "src/lib/log/log.h"

namespace berth::fuse {

/// What an interrupt calls. The function is moved out to be called, under libfuse's lock of the request, so that it is
/// called once and may free this block by answering.
struct Reply::Interrupt {
  UniqueFunction<void()> function;
  std::uint64_t unique;  ///< the number of the request; 0: not known
  std::uint32_t opcode;
};

namespace {

/// The request whose interrupt function this thread runs: libfuse holds its lock meanwhile, so that function must not
/// be changed.
thread_local constinit fuse_req_t interrupting = nullptr;

/// While this thread sets an interrupt function: where to put it if libfuse calls it at once, for libfuse 3.14 frees
/// the request under its own feet when that call answers.
thread_local constinit UniqueFunction<void()>* deferred = nullptr;

void log_bug(const char* what) noexcept {
  try {
    log::error("{}", what);
  } catch (...) {
    // Nothing to be done about a line that cannot be written.
  }
}

struct stat outer(struct stat attributes) noexcept {
  attributes.st_uid = outer_user(attributes.st_uid);
  attributes.st_gid = outer_group(attributes.st_gid);
  return attributes;
}

// libfuse 3.14 cannot express all that an open may answer, so these are put together here.

fuse_attr to_answer(const struct stat& attributes) noexcept {
  fuse_attr answer{};
  answer.ino = attributes.st_ino;
  answer.size = static_cast<std::uint64_t>(attributes.st_size);
  answer.blocks = static_cast<std::uint64_t>(attributes.st_blocks);
  answer.atime = static_cast<std::uint64_t>(attributes.st_atim.tv_sec);
  answer.mtime = static_cast<std::uint64_t>(attributes.st_mtim.tv_sec);
  answer.ctime = static_cast<std::uint64_t>(attributes.st_ctim.tv_sec);
  answer.atimensec = static_cast<std::uint32_t>(attributes.st_atim.tv_nsec);
  answer.mtimensec = static_cast<std::uint32_t>(attributes.st_mtim.tv_nsec);
  answer.ctimensec = static_cast<std::uint32_t>(attributes.st_ctim.tv_nsec);
  answer.mode = attributes.st_mode;
  answer.nlink = static_cast<std::uint32_t>(attributes.st_nlink);
  answer.uid = outer_user(attributes.st_uid);
  answer.gid = outer_group(attributes.st_gid);
  answer.rdev = static_cast<std::uint32_t>(attributes.st_rdev);
  answer.blksize = static_cast<std::uint32_t>(attributes.st_blksize);
  return answer;
}

/// Whole seconds, and the nanoseconds that are left.
std::pair<std::uint64_t, std::uint32_t> to_answer(Seconds valid) noexcept {
  constexpr Seconds kForever = 1e18;
  if (valid <= 0) return {0, 0};
  if (valid >= kForever) return {static_cast<std::uint64_t>(kForever), 0};
  const auto whole = static_cast<std::uint64_t>(valid);
  return {whole, static_cast<std::uint32_t>((valid - static_cast<Seconds>(whole)) * 1e9)};
}

fuse_entry_out to_answer(const Entry& entry) noexcept {
  fuse_entry_out answer{};
  answer.nodeid = entry.node;
  answer.generation = entry.generation;
  std::tie(answer.entry_valid, answer.entry_valid_nsec) = to_answer(entry.entry_ttl);
  std::tie(answer.attr_valid, answer.attr_valid_nsec) = to_answer(entry.attr_ttl);
  answer.attr = to_answer(entry.attributes);
  return answer;
}

protocol::OpenAnswer to_answer(const Opened& opened) noexcept {
  std::uint32_t flags = 0;
  if (opened.direct_io) flags |= FOPEN_DIRECT_IO;
  if (opened.keep_cache) flags |= FOPEN_KEEP_CACHE;
  if (opened.cache_directory) flags |= FOPEN_CACHE_DIR;
  if (opened.no_flush) flags |= FOPEN_NOFLUSH;
  if (opened.nonseekable) flags |= FOPEN_NONSEEKABLE;
  if (opened.backing != 0) flags |= protocol::kOpenPassthrough;
  return {.handle = opened.handle, .flags = flags, .backing_id = opened.backing};
}

protocol::StatxTime to_answer(const timespec& time) noexcept {
  return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec), .reserved = 0};
}

protocol::StatxAnswer to_statx_answer(const struct stat& attributes, Seconds valid,
                                      const std::optional<timespec>& born) noexcept {
  protocol::StatxAnswer answer{};
  std::tie(answer.attr_valid, answer.attr_valid_nsec) = to_answer(valid);
  answer.mask = STATX_BASIC_STATS | (born ? STATX_BTIME : 0U);
  answer.blksize = static_cast<std::uint32_t>(attributes.st_blksize);
  answer.nlink = static_cast<std::uint32_t>(attributes.st_nlink);
  answer.uid = outer_user(attributes.st_uid);
  answer.gid = outer_group(attributes.st_gid);
  answer.mode = static_cast<std::uint16_t>(attributes.st_mode);
  answer.ino = attributes.st_ino;
  answer.size = static_cast<std::uint64_t>(attributes.st_size);
  answer.blocks = static_cast<std::uint64_t>(attributes.st_blocks);
  answer.atime = to_answer(attributes.st_atim);
  answer.btime = to_answer(born.value_or(timespec{}));
  answer.ctime = to_answer(attributes.st_ctim);
  answer.mtime = to_answer(attributes.st_mtim);
  answer.rdev_major = major(attributes.st_rdev);
  answer.rdev_minor = minor(attributes.st_rdev);
  return answer;
}

template <typename Answer>
std::string bytes_of(const Answer& answer) {
  const void* const bytes = &answer;
  return {static_cast<const char*>(bytes), sizeof answer};
}

template <typename Answer>
int send(fuse_req_t request, const Answer& answer) noexcept {
  const void* const bytes = &answer;
  return fuse_reply_buf(request, static_cast<const char*>(bytes), sizeof answer);
}

}  // namespace

fuse_entry_param to_param(const Entry& entry) noexcept {
  fuse_entry_param param{};
  param.ino = entry.node;
  param.generation = entry.generation;
  param.attr = outer(entry.attributes);
  param.attr_timeout = entry.attr_ttl;
  param.entry_timeout = entry.entry_ttl;
  return param;
}

void Reply::run_interrupt(fuse_req_t request, void* interrupt) noexcept {
  auto& set = *static_cast<Interrupt*>(interrupt);
  auto* const session = static_cast<Session*>(fuse_req_userdata(request));
  if (!set.function) return;
  // If not, this is called again later.
  const pid_t caller = fuse_req_ctx(request)->pid;
  if (set.unique != 0 && !session->in_flight().ends_request(set.unique, caller, set.opcode)) return;
  UniqueFunction<void()> function = std::move(set.function);
  if (deferred != nullptr) {
    *deferred = std::move(function);
    return;
  }
  const fuse_req_t outer = std::exchange(interrupting, request);
  try {
    function();
  } catch (...) {
    log_bug("telling of an interrupt failed; the request goes on");
  }
  interrupting = outer;
}

void Reply::on_interrupt(UniqueFunction<void()> function) {
  drop_interrupt();
  auto interrupt =
      std::make_unique<Interrupt>(Interrupt{std::move(function), this_request::number(), this_request::opcode()});
  answered_ = !this_request::hand_on();
  const fuse_req_t request = request_;
  interrupt_ = interrupt.release();
  UniqueFunction<void()> at_once;
  deferred = &at_once;
  // From here on `*this` belongs to the thread that is faster.
  fuse_req_interrupt_func(request, &Reply::run_interrupt, interrupt_);
  deferred = nullptr;
  if (at_once) at_once();
}

void Reply::drop_interrupt() noexcept {
  if (interrupt_ == nullptr) return;
  // Waits for a function that runs on another thread.
  if (interrupting != request_) fuse_req_interrupt_func(request_, nullptr, nullptr);
  delete std::exchange(interrupt_, nullptr);
}

fuse_req_t Reply::take() noexcept {
  drop_interrupt();
  return std::exchange(request_, nullptr);
}

Reply& Reply::operator=(Reply&& other) noexcept {
  if (this != &other) {
    Reply dropped(std::move(*this));
    request_ = std::exchange(other.request_, nullptr);
    interrupt_ = std::exchange(other.interrupt_, nullptr);
    statx_ = other.statx_;
    answered_ = other.answered_;
  }
  return *this;
}

Reply::~Reply() {
  if (request_ == nullptr) return;
  const fuse_req_t request = take();
  if (answered_) {
    fuse_reply_none(request);
    return;
  }
  if (ExceptionBarrier::accept_dropped(request)) return;
  log_bug("a request was dropped without an answer; its caller was told EIO");
  fuse_reply_err(request, EIO);
}

sys::Identity Reply::caller() const noexcept {
  const fuse_ctx* context = fuse_req_ctx(request_);
  return {.uid = context->uid, .gid = context->gid, .pid = context->pid};
}

mode_t Reply::umask() const noexcept { return fuse_req_ctx(request_)->umask; }

template <typename Send>
bool Reply::answer(Send send) noexcept {
  const fuse_req_t request = take();
  if (request == nullptr) {
    log_bug("a request was answered a second time; the second answer was dropped");
    return false;
  }
  if (answered_) fuse_reply_none(request);
  return !answered_ && send(request) == 0;
}

void Reply::error(int code) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_err(request, code); });
}

bool Reply::entry(const Entry& entry) && noexcept {
  const fuse_entry_param param = to_param(entry);
  return answer([&](fuse_req_t request) { return fuse_reply_entry(request, &param); });
}

bool Reply::created(const Entry& entry, const Opened& opened) && noexcept {
  struct Answer {
    fuse_entry_out entry;
    protocol::OpenAnswer open;
  };
  const Answer created{to_answer(entry), to_answer(opened)};
  return answer([&](fuse_req_t request) { return send(request, created); });
}

bool Reply::opened(const Opened& opened) && noexcept {
  const protocol::OpenAnswer open = to_answer(opened);
  return answer([&](fuse_req_t request) { return send(request, open); });
}

void Reply::attributes(const struct stat& attributes, Seconds valid, std::optional<timespec> born) && noexcept {
  if (!statx_) {
    const struct stat there = outer(attributes);
    answer([&](fuse_req_t request) { return fuse_reply_attr(request, &there, valid); });
    return;
  }
  const protocol::StatxAnswer statx = to_statx_answer(attributes, valid, born);
  answer([&](fuse_req_t request) { return send(request, statx); });
}

void Reply::set_known_attributes(const struct stat& attributes, Seconds valid) const {
  if (statx_) return this_request::set_known(0, bytes_of(to_statx_answer(attributes, valid, {})));
  fuse_attr_out answer{};
  std::tie(answer.attr_valid, answer.attr_valid_nsec) = to_answer(valid);
  answer.attr = to_answer(attributes);
  this_request::set_known(0, bytes_of(answer));
}

void Reply::set_known_xattr(int error, std::span<const char> value, std::size_t size) {
  if (error != 0) return this_request::set_known(error, {});
  if (size != 0) return this_request::set_known(0, {value.begin(), value.end()});
  this_request::set_known(0,
                          bytes_of(fuse_getxattr_out{.size = static_cast<std::uint32_t>(value.size()), .padding = 0}));
}

void Reply::link_target(const char* target) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_readlink(request, target); });
}

bool Reply::data(std::span<const char> bytes) && noexcept {
  return answer([&](fuse_req_t request) { return fuse_reply_buf(request, bytes.data(), bytes.size()); });
}

void Reply::written(std::size_t bytes) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_write(request, bytes); });
}

void Reply::statistics(const struct statvfs& statistics) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_statfs(request, &statistics); });
}

void Reply::xattr_size(std::size_t bytes) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_xattr(request, bytes); });
}

void Reply::poll(unsigned revents) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_poll(request, revents); });
}

void Reply::offset(off_t offset) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_lseek(request, offset); });
}

void Reply::lock(const struct flock& lock) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_lock(request, &lock); });
}

void Reply::ioctl(int result, std::span<const char> bytes) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_ioctl(request, result, bytes.data(), bytes.size()); });
}

void Reply::invalidate_attributes_of(std::uint64_t node) const noexcept {
  auto* const session = static_cast<Session*>(fuse_req_userdata(request_));
  // Attributes alone, so this waits for no lock that a request may hold. Nothing is lost when it fails: they are
  // cached for a moment only.
  (void)session->invalidate_node(node, -1, 0);
}

void Reply::none() && noexcept {
  answer([](fuse_req_t request) {
    fuse_reply_none(request);
    return 0;
  });
}

}  // namespace berth::fuse
