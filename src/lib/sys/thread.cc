#include "src/lib/sys/thread.h"

#include <pthread.h>
#include <sched.h>

#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include "src/lib/sys/identity.h"
#include "src/lib/sys/scheduling.h"

namespace berth::sys {

sigset_t all_but_faults() noexcept {
  sigset_t signals;
  ::sigfillset(&signals);
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP}) ::sigdelset(&signals, fault);
  return signals;
}

Result<std::thread> start_thread(std::string name, Task body) {
  // A thread inherits the mask, so it never runs without.
  const sigset_t blocked = all_but_faults();
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, &blocked, &before);
  Result<std::thread> result;
  try {
    result = std::thread([thread_name = std::move(name), work = std::move(body)]() mutable {
      ::pthread_setname_np(::pthread_self(), thread_name.c_str());
      assume_daemon();
      if (::sched_getscheduler(0) == SCHED_IDLE) static_cast<void>(unpin(0));
      ::unshare(CLONE_FS);  // the thread that started it may change its own umask (spawn_program.cc)
      work();
    });
  } catch (const std::system_error&) {
    result = fail(EAGAIN, "cannot start a thread");
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

}  // namespace berth::sys
