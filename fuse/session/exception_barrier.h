#pragma once

#include <exception>
#include <new>
#include <utility>

#include "fuse/session/reply.h"

namespace berth::fuse {

/// Notes, for a scope, which request this thread handles. A Reply that an exception drops on its way out is then
/// answered here and not by its destructor, which cannot know the exception.
class ExceptionBarrier {
 public:
  explicit ExceptionBarrier(fuse_req_t request) noexcept : request_(request), outer_(std::exchange(current_, this)) {}
  ~ExceptionBarrier() { current_ = outer_; }
  ExceptionBarrier(const ExceptionBarrier&) = delete;
  ExceptionBarrier& operator=(const ExceptionBarrier&) = delete;

  /// For Reply's destructor: true when the wall above will answer `request`.
  static bool accept_dropped(fuse_req_t request) noexcept {
    if (current_ == nullptr || current_->request_ != request || std::uncaught_exceptions() == 0) return false;
    current_->dropped_ = true;
    return true;
  }

  /// Inside a handler: logs the exception and answers the request, unless another thread owns it by now. bad_alloc is
  /// ENOMEM, anything else EIO.
  void answer_exception() noexcept;

 private:
  static thread_local constinit ExceptionBarrier* current_;
  const fuse_req_t request_;
  ExceptionBarrier* const outer_;
  bool dropped_ = false;
};

/// Calls `operation(Reply)`; what it throws becomes an error of the request.
template <typename Operation>
void run_behind_barrier(fuse_req_t request, Operation&& operation) noexcept {
  ExceptionBarrier wall(request);
  try {
    std::forward<Operation>(operation)(Reply(request));
  } catch (...) {
    wall.answer_exception();
  }
}

}  // namespace berth::fuse
