#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cstdint>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "src/lib/base/error.h"
#include "src/lib/base/unique_function.h"
#include "src/lib/sys/identity.h"

namespace berth::fuse {

/// How long the kernel may cache something, in seconds, as libfuse takes it.
using Seconds = double;

/// The answer to a look-up or a creation.
struct Entry {
  std::uint64_t node = 0;  ///< 0: a negative entry
  std::uint64_t generation = 0;
  struct stat attributes {};
  Seconds attr_ttl = 0;
  Seconds entry_ttl = 0;
};

/// The entry as libfuse takes it.
fuse_entry_param to_param(const Entry& entry) noexcept;

/// The answer to an open.
struct Opened {
  std::uint64_t handle = 0;
  bool direct_io = false;
  bool keep_cache = false;
  bool cache_directory = false;
  bool no_flush = false;
  bool nonseekable = false;
  /// The kernel reads and writes the file by itself (direct_io: maps it only); 0: it asks the server.
  std::int32_t backing = 0;
};

/// One request that must be answered. Answering consumes it, so it is answered exactly once. A request that is dropped
/// without an answer is answered EIO, and that is logged, for it is a bug.
///
/// The functions that give the kernel a reference (entry, created, opened) return whether the kernel took it: false
/// when the caller was interrupted meanwhile, and then the code that answered must take the reference back.
///
/// Publish before reply: what the answer names must be in its table before, and may be gone right after.
///
/// Threading: one thread at a time; it may be answered on another thread than the one that read the request.
class Reply {
 public:
  explicit Reply(fuse_req_t request) noexcept : request_(request) {}
  Reply(Reply&& other) noexcept
      : request_(std::exchange(other.request_, nullptr)),
        interrupt_(std::exchange(other.interrupt_, nullptr)),
        statx_(other.statx_),
        answered_(other.answered_) {}
  Reply& operator=(Reply&& other) noexcept;
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;
  ~Reply();

  /// The caller's identity.
  [[nodiscard]] sys::Identity caller() const noexcept;
  /// The caller's file mode creation mask (umask(2)).
  [[nodiscard]] mode_t umask() const noexcept;

  /// Sets a function that is called, at most once, when the caller does not want an answer any more (a signal). It
  /// replaces the one before.
  /// - The function runs on another thread, or before this returns when the kernel has reported the interrupt already.
  /// - It may answer, if it can get at this Reply. It must not wait: answering waits until it has returned, and
  ///   afterwards it is not called any more. This touches what is shared with other threads only before the function
  ///   can be called (parked_reply.h).
  void on_interrupt(UniqueFunction<void()> function);

  void error(int code) && noexcept;  ///< errno value; 0: success without data
  void error(const Error& error) && noexcept { std::move(*this).error(error.code()); }
  [[nodiscard]] bool entry(const Entry& entry) && noexcept;
  [[nodiscard]] bool created(const Entry& entry, const Opened& opened) && noexcept;
  [[nodiscard]] bool opened(const Opened& opened) && noexcept;
  /// `born`: where it is known; not all requests for attributes can carry it.
  void attributes(const struct stat& attributes, Seconds valid, std::optional<timespec> born = {}) && noexcept;
  void link_target(const char* target) && noexcept;
  /// False: the caller does not get it. Look-ups that were counted for a page are taken back then.
  bool data(std::span<const char> bytes) && noexcept;
  void written(std::size_t bytes) && noexcept;
  void statistics(const struct statvfs& statistics) && noexcept;
  void xattr_size(std::size_t bytes) && noexcept;
  void poll(unsigned revents) && noexcept;
  void offset(off_t offset) && noexcept;
  void lock(const struct flock& lock) && noexcept;
  /// What ioctl(2) returned, and what it wrote.
  void ioctl(int result, std::span<const char> bytes) && noexcept;
  /// Sends nothing: libfuse has answered, or the request has no answer (FORGET and others).
  void none() && noexcept;

  /// The request for attributes is one for statx(2), and to be answered so.
  void ask_statx() noexcept { statx_ = true; }
  /// The kernel is to ask again for the attributes of a node that this request changed without saying so.
  void invalidate_attributes_of(std::uint64_t node) const noexcept;

  // What the calling thread's request is answered if the file system does not answer it soon.
  void set_known_attributes(const struct stat& attributes, Seconds valid) const;
  /// `error`: an errno value; 0: `value` fits into `size`, or that is 0.
  static void set_known_xattr(int error, std::span<const char> value, std::size_t size);

  /// The request itself, for building directory entries (fuse_add_direntry and _plus take it).
  [[nodiscard]] fuse_req_t request() const noexcept { return request_; }

 private:
  struct Interrupt;
  static void run_interrupt(fuse_req_t request, void* interrupt) noexcept;
  void drop_interrupt() noexcept;
  fuse_req_t take() noexcept;
  template <typename Send>
  bool answer(Send send) noexcept;

  fuse_req_t request_;
  Interrupt* interrupt_ = nullptr;  ///< owned; null unless on_interrupt() was called
  bool statx_ = false;              ///< attributes are asked for by statx(2)
  bool answered_ = false;           ///< by another thread (RequestSlot): nothing more is sent to the kernel
};

}  // namespace berth::fuse
