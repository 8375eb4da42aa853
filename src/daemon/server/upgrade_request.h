#pragma once

#include <cstdint>

#include "manager/engine/manager.h"
#include "src/daemon/common/kept_daemon.h"
#include "src/daemon/common/link.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"

namespace berth::daemon {

/// A caller's request for another binary in berth's place. The next server answers it, because the kernel sends the
/// request again. If the binary is refused, this server answers. If a server dies over it, its successor asks again.
///
/// Threading: any thread may call anything.
class UpgradeRequest {
 public:
  /// Both must outlive this object; `keeper` is the servers' end of the link to the keeper.
  UpgradeRequest(KeptDaemon& record, const Link& keeper) noexcept : record_(record), keeper_(keeper) {}

  /// Asks the keeper. `request` is the number by which the kernel sends it again.
  /// Errors (to `done`): EBUSY while one is under way, ENOEXEC when the binary is refused, those of end().
  void ask(std::uint64_t request, manager::DoneCallback done);
  /// The binary takes over, and nothing that is unanswered outlives this server.
  void accept();
  /// The keeper has refused it.
  void refuse();
  /// Nothing will come of it any more.
  void end(const Error& error);

 private:
  void answer(const Result<>& result);

  KeptDaemon& record_;
  const Link& keeper_;
  Mutex mutex_;
  manager::DoneCallback asked_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::daemon
