#pragma once

#include <memory>
#include <utility>

#include "manager/model/host_state.h"
#include "manager/state/attachment_store.h"
#include "src/daemon/server/server_setup.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"

namespace berth::daemon {

/// Where a server finds what is attached and where the host stands: on disk, or in memory that ends with berth; and the
/// host state, from the server before it.
///
/// Threading: one thread; keep_host() any, one at a time.
class ServerState {
 public:
  explicit ServerState(const ServerSetup& setup) noexcept : setup_(setup), record_(setup.record()) {}

  /// What is there already is take_stored()'s. Null: attachments end with this server.
  std::unique_ptr<manager::AttachmentStore> open_store();
  [[nodiscard]] manager::StoredState take_stored() noexcept { return std::move(kept_); }

  /// What the last server had, else a new generation, or drained still; after open_store().
  manager::HostState begin_host(manager::AttachmentStore* store, WallTime now);
  /// To the next server, if this one dies.
  void keep_host(const manager::HostState& host) noexcept;

 private:
  Result<manager::StateDirectory> state_in_memory();
  /// Whether all that there is to load can be read soon. A disk that does not answer holds up a thread, and not the
  /// take-over.
  Result<> ask(const manager::StateDirectory& state) const;
  std::unique_ptr<manager::AttachmentStore> load(manager::StateDirectory state);

  const ServerSetup& setup_;
  KeptDaemon& record_;
  manager::StoredState kept_;
};

}  // namespace berth::daemon
