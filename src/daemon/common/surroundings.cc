#include "src/daemon/common/surroundings.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/lib/base/unique_fd.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/inherited.h"

namespace berth::daemon {
namespace {

constexpr mode_t kUmask = 022;

void warn(const Result<>& result) {
  if (!result) log::warning("{}", result.error().message());
}

/// Nothing reads it. A pipe there would be held open, and a terminal would stop a background process that reads it.
Result<> let_go_of_standard_input() {
  const UniqueFd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!nothing || ::dup2(nothing.get(), STDIN_FILENO) < 0) return fail(Error::last().within("/dev/null"));
  return {};
}

}  // namespace

Result<> settle_surroundings(bool executed) {
  sys::settle_signals();
  if (!executed) {
    TRY_VOID(sys::open_standard_descriptors());
    sys::close_other_descriptors();
    TRY_VOID(let_go_of_standard_input());
    sys::unblock_signals();
  }
  log::adopt_standard_error();
  ::umask(kUmask);
  if (::chdir("/") != 0) return fail(Error::last().within("cannot enter the root directory"));
  TRY_VOID(sys::lift_limits());
  warn(sys::settle_scheduling());
  warn(sys::settle_oom_score());
  return {};
}

}  // namespace berth::daemon
