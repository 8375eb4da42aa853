#include "fuse/session/exception_barrier.h"

#include <cerrno>

#include "src/lib/base/text.h"
#include "src/lib/log/log.h"

namespace berth::fuse {

thread_local constinit ExceptionBarrier* ExceptionBarrier::current_ = nullptr;

namespace {

/// The errno value for the exception that is being handled.
int code_of_exception() noexcept {
  try {
    try {
      throw;
    } catch (const std::bad_alloc&) {
      return ENOMEM;
    } catch (const std::exception& exception) {
      log::error("an operation threw {}; its caller was told EIO", quote(exception.what()));
    } catch (...) {
      log::error("an operation threw what is no exception; its caller was told EIO");
    }
  } catch (...) {
    // Not even the log line could be made; the answer holds what matters.
  }
  return EIO;
}

}  // namespace

void ExceptionBarrier::answer_exception() noexcept {
  const int code = code_of_exception();
  if (std::exchange(dropped_, false)) fuse_reply_err(request_, code);
}

}  // namespace berth::fuse
