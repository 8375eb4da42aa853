#include "fuse/reply.h"

#include <cerrno>
#include <memory>

#include "fuse/last_wall.h"
#include "src/log/log.h"

namespace berth::fuse {

/// What an interrupt calls. The function is moved out to be called, under libfuse's lock of the request, so that it is
/// called once and may free this block by answering.
struct Reply::Interrupt {
  UniqueFunction<void()> function;
};

namespace {

/// The request whose interrupt function this thread is in: libfuse holds its lock then, so it must not be asked to
/// change that function.
thread_local constinit fuse_req_t interrupting = nullptr;

/// While this thread sets an interrupt function: where to put it if libfuse calls it at once, for libfuse 3.14 frees the
/// request under its own feet when that call answers.
thread_local constinit UniqueFunction<void()>* deferred = nullptr;

void log_bug(const char* what) noexcept {
  try {
    log::error("{}", what);
  } catch (...) {
    // Nothing to be done about a line that cannot be written.
  }
}

fuse_entry_param to_param(const Entry& entry) noexcept {
  fuse_entry_param param{};
  param.ino = entry.node;
  param.generation = entry.generation;
  param.attr = entry.attributes;
  param.attr_timeout = entry.attributes_valid;
  param.entry_timeout = entry.entry_valid;
  return param;
}

fuse_file_info to_file_info(const Opened& opened) noexcept {
  fuse_file_info info{};
  info.fh = opened.handle;
  info.direct_io = opened.direct_io;
  info.keep_cache = opened.keep_cache;
  info.cache_readdir = opened.cache_directory;
  info.noflush = opened.no_flush;
  info.nonseekable = opened.nonseekable;
  return info;
}

}  // namespace

void Reply::run_interrupt(fuse_req_t request, void* interrupt) noexcept {
  UniqueFunction<void()> function = std::move(static_cast<Interrupt*>(interrupt)->function);
  if (!function) return;
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
  auto interrupt = std::make_unique<Interrupt>(Interrupt{std::move(function)});
  const fuse_req_t request = request_;
  interrupt_ = interrupt.release();
  UniqueFunction<void()> at_once;
  deferred = &at_once;
  // From here on `*this` belongs to whoever is faster.
  fuse_req_interrupt_func(request, &Reply::run_interrupt, interrupt_);
  deferred = nullptr;
  if (at_once) at_once();
}

fuse_req_t Reply::take() noexcept {
  if (interrupt_ != nullptr) {
    // Waits for a function that runs on another thread.
    if (interrupting != request_) fuse_req_interrupt_func(request_, nullptr, nullptr);
    delete std::exchange(interrupt_, nullptr);
  }
  return std::exchange(request_, nullptr);
}

Reply& Reply::operator=(Reply&& other) noexcept {
  if (this != &other) {
    Reply dropped(std::move(*this));
    request_ = std::exchange(other.request_, nullptr);
    interrupt_ = std::exchange(other.interrupt_, nullptr);
  }
  return *this;
}

Reply::~Reply() {
  if (request_ == nullptr) return;
  const fuse_req_t request = take();
  if (LastWall::catches(request)) return;
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
  return send(request) == 0;
}

void Reply::error(int code) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_err(request, code); });
}

bool Reply::entry(const Entry& entry) && noexcept {
  const fuse_entry_param param = to_param(entry);
  return answer([&](fuse_req_t request) { return fuse_reply_entry(request, &param); });
}

bool Reply::created(const Entry& entry, const Opened& opened) && noexcept {
  const fuse_entry_param param = to_param(entry);
  const fuse_file_info info = to_file_info(opened);
  return answer([&](fuse_req_t request) { return fuse_reply_create(request, &param, &info); });
}

bool Reply::opened(const Opened& opened) && noexcept {
  const fuse_file_info info = to_file_info(opened);
  return answer([&](fuse_req_t request) { return fuse_reply_open(request, &info); });
}

void Reply::attributes(const struct stat& attributes, Seconds valid) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_attr(request, &attributes, valid); });
}

void Reply::link_target(const char* target) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_readlink(request, target); });
}

void Reply::data(std::span<const char> bytes) && noexcept {
  answer([&](fuse_req_t request) { return fuse_reply_buf(request, bytes.data(), bytes.size()); });
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

void Reply::none() && noexcept {
  answer([](fuse_req_t request) {
    fuse_reply_none(request);
    return 0;
  });
}

}  // namespace berth::fuse
