#pragma once

#include <cstdint>

#include "manager/engine/manager.h"
#include "src/daemon/common/kept_daemon.h"
#include "src/daemon/common/link.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"

namespace berth::daemon {

/// Somebody wants another binary in our place. Who asked is answered by the next server, whom the kernel sends the
/// request again, or by us when that binary is refused. A server that dies over it is succeeded by one that asks again.
///
/// Threading: any thread may call anything.
class UpgradeRequest {
 public:
  /// Both must outlive this object; `keeper` is the servers' end of the link to him.
  UpgradeRequest(KeptDaemon& record, const Link& keeper) noexcept : record_(record), keeper_(keeper) {}

  /// Asks the keeper. `request` is the number by which the kernel sends it again.
  /// Errors (to `done`): EBUSY while one is under way, ENOEXEC when the binary is refused, what end() says.
  void ask(std::uint64_t request, manager::DoneCallback done);
  /// The binary goes on, and nothing that is unanswered outlives this server.
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
