#pragma once

#include <memory>
#include <utility>

#include "manager/model/host_state.h"
#include "manager/state/attachment_store.h"
#include "src/daemon/server/holdings.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"

namespace berth::daemon {

/// Where a server finds what is attached and where the host stands: on disk, or in memory that ends with berth; and the host
/// state, from the server before it.
///
/// Threading: one thread; hand_on() any, one at a time.
class ServerState {
 public:
  explicit ServerState(const Holdings& holdings) noexcept : holdings_(holdings), record_(holdings.record()) {}

  /// What is there already is take_kept()'s. Null: attachments end with this server.
  std::unique_ptr<manager::AttachmentStore> open_store();
  [[nodiscard]] manager::KeptState take_kept() noexcept { return std::move(kept_); }

  /// What the last server had, else a new generation, or drained still; after open_store().
  manager::HostState begin_host(manager::AttachmentStore* store, WallTime now);
  /// To the next server, if this one dies.
  void hand_on(const manager::HostState& host) noexcept;

 private:
  Result<manager::StateDirectory> state_in_memory();
  std::unique_ptr<manager::AttachmentStore> load(manager::StateDirectory state);

  const Holdings& holdings_;
  DaemonRecord& record_;
  manager::KeptState kept_;
};

}  // namespace berth::daemon
