#include "src/lib/sys/children.h"

#include <sys/wait.h>

#include <cerrno>
#include <unordered_map>

#include "src/lib/base/mutex.h"
#include "src/lib/sys/process.h"

namespace berth::sys {
namespace {

struct Registry {
  Mutex mutex;
  /// A count, for a number may be used again between the collection of its owner and forget().
  std::unordered_map<pid_t, int> owned BERTH_GUARDED_BY(mutex);
  int starting BERTH_GUARDED_BY(mutex) = 0;
  /// An owned child stood in the way of reap_orphans(); who removes it goes on.
  bool orphans_waiting BERTH_GUARDED_BY(mutex) = false;
};

Registry& registry() {
  // Never destroyed: a Process may be a static of somebody else.
  static auto* const the_registry = new Registry;
  return *the_registry;
}

void reap_if_waiting() noexcept {
  {
    Registry& all = registry();
    const MutexLock lock(all.mutex);
    if (!all.orphans_waiting) return;
  }
  reap_orphans();
}

/// Whether the ended child `pid` has, or may get, an owner; the owner will then go on with the orphans.
bool leave_to_owner(pid_t pid) {
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  if (all.starting == 0 && !all.owned.contains(pid)) return false;
  all.orphans_waiting = true;
  return true;
}

}  // namespace

namespace children {

void starting() {
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  ++all.starting;
}

void started(pid_t pid) {
  {
    Registry& all = registry();
    const MutexLock lock(all.mutex);
    --all.starting;
    ++all.owned[pid];
  }
  reap_if_waiting();
}

void not_started() {
  {
    Registry& all = registry();
    const MutexLock lock(all.mutex);
    --all.starting;
  }
  reap_if_waiting();
}

void forget(pid_t pid) {
  {
    Registry& all = registry();
    const MutexLock lock(all.mutex);
    const auto found = all.owned.find(pid);
    if (found != all.owned.end() && --found->second == 0) all.owned.erase(found);
  }
  reap_if_waiting();
}

}  // namespace children

std::size_t reap_orphans() noexcept {
  {
    Registry& all = registry();
    const MutexLock lock(all.mutex);
    all.orphans_waiting = false;
  }
  std::size_t count = 0;
  for (;;) {
    siginfo_t ended{};
    // WNOWAIT: look first, collect only what is nobody's.
    if (::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0) {
      if (errno == EINTR) continue;
      return count;
    }
    if (ended.si_pid == 0 || leave_to_owner(ended.si_pid)) return count;
    if (::waitpid(ended.si_pid, nullptr, WNOHANG | __WALL) > 0) ++count;
  }
}

}  // namespace berth::sys
