#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuse/control/overmount_looks.h"
#include "fuse/kept/kept_state.h"
#include "fuse/session/operations.h"
#include "fuse/tables/handle_users.h"
#include "manager/engine/manager.h"
#include "manager/model/events.h"
#include "src/lib/base/clock.h"
#include "src/lib/formats/view.h"

namespace berth::fuse {

/// What a server does and has done, for `metrics`.
struct ServerLoad {
  std::uint64_t requests = 0;       ///< handled
  std::uint64_t stuck_threads = 0;  ///< in shares that do not answer
  std::uint64_t open_files = 0;     ///< files and directories
};

/// What the control tree shows, and which callers it obeys.
struct ControlSetup {
  std::string version;                 ///< of berth
  std::string directory;               ///< where the namespace is mounted
  std::vector<std::string> arguments;  ///< of `berth` that serve the same
  pid_t keeper = 0;
  pid_t server = 0;
  std::optional<gid_t> group;        ///< [control] group: members may change things, as root may
  bool readable_by_everyone = true;  ///< false: for root, `owner` and `group` only
  uid_t owner = 0;                   ///< user that the daemon runs as: may change anything too
  /// Has another binary take berth's place; `request` is the number of the request that asks.
  std::function<void(std::uint64_t request, manager::DoneCallback done)> upgrade;
  /// Has the configuration read again, or for `dry_run` says what that would do; there is something in `last_reload`
  /// then.
  std::function<void(bool dry_run, manager::DoneCallback done)> reload;
  std::function<std::string(bool dry_run)> last_reload;
  /// The catalog sources. Empty: there are none.
  std::function<std::vector<formats::SourceView>()> sources;
  std::size_t max_nodes = 0;  ///< [berth] max_nodes
  /// The number of nodes now. Empty: not known.
  std::function<std::size_t()> nodes;
  /// What the server does now. Empty: not known.
  std::function<ServerLoad()> load;
  /// Bytes of memory that the programs of a share use; nothing where that is not known. Empty: of none it is.
  std::function<std::optional<std::uint64_t>(const manager::Share&)> helper_memory;
  std::uint32_t servers = 1;    ///< how many have served this namespace, this one included
  EventArea* events = nullptr;  ///< outlives this; null: there will be no successor
  LogArea* logs = nullptr;      ///< likewise
  /// The users that have files and directories of a share open; must not block on the share.
  std::function<HandleUsers(const manager::Share&, const UsersWanted&)> users_of;
  /// What processes have in these overmounts of native shares (ShareStatus::overmount), found anew. Empty: there are
  /// none.
  OvermountLooks::Look look_at_overmounts;
  /// Callers that wait for an answer of a share; must not block either. Empty: they are not shown.
  std::function<Unanswered(const manager::Share&)> unanswered_in;
};

/// The `.berth` directory: files that show the namespace and its shares, and files and directories that take commands.
///
/// Reading shows snapshots: nothing here waits for a share or mounts one. A file is written down when it is opened, so
/// that all that one reader sees is of one moment. Only control writes, mkdir and rmdir below `attachments` wait for a
/// share. They are parked and answered when the manager is done. An interrupted one is answered EINTR: a mount then
/// continues, and an attachment that no caller waits for is given back.
///
/// Every user may read, unless the setup forbids it; root, `owner` and members of `group` may change.
///
/// Ownership: `manager` and `clock` outlive this, this outlives the session. The order of the end: Workers::run() has
/// returned, Manager::stop() (answers all callers that wait), stop(), then the session goes, then this.
/// Threading: any thread may call anything.
class ControlTree final : public Operations {
 public:
  ControlTree(manager::Manager& manager, const Clock& clock, ControlSetup setup);
  ~ControlTree() override;

  /// The entry of `.berth` itself, for a look-up of that name in the root; one look-up more is owed a forget().
  [[nodiscard]] Entry root_entry();
  /// The waiters for events that a dead server has left (Session::wake_poller).
  [[nodiscard]] const std::vector<std::uint64_t>& inherited_polls() const noexcept;
  /// The attributes in root_entry(), for listing the root; counts nothing.
  [[nodiscard]] struct stat root_attributes() const;

  /// Adds a line to `events`. Does not block: another thread notifies readers that wait.
  void append_event(const manager::Event& event);

  /// Counts an event for `metrics`. Does not block.
  void count_event(const manager::Event& event);

  /// Adds whole lines to a share's `log`.
  void append_output(const std::string& share, std::string_view lines);

  /// Sends no notifications any more; to be called before the session goes.
  void stop() noexcept;

  /// Nodes that the kernel knows, and open files; both are 0 when it has forgotten all.
  struct Counts {
    std::size_t nodes, handles;
  };
  [[nodiscard]] Counts counts() const;

  void lookup(Reply reply, NodeId parent, const char* name) override;
  void forget(NodeId node, std::uint64_t count) noexcept override;
  void getattr(Reply reply, NodeId node, const fuse_file_info* handle) override;
  void setattr(Reply reply, NodeId node, const struct stat& attributes, int to_set,
               const fuse_file_info* handle) override;
  void mkdir(Reply reply, NodeId parent, const char* name, mode_t mode) override;
  void rmdir(Reply reply, NodeId parent, const char* name) override;
  void open(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void read(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) override;
  void write(Reply reply, NodeId node, std::span<const char> bytes, off_t offset,
             const fuse_file_info& handle) override;
  void release(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void opendir(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void readdir(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) override;
  void readdirplus(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) override;
  void releasedir(Reply reply, NodeId node, const fuse_file_info& handle) override;
  void poll(Reply reply, NodeId node, const fuse_file_info& handle, fuse_pollhandle* waker) override;

 private:
  class Core;
  std::shared_ptr<Core> core_;  ///< shared with operations that the manager has not ended yet
};

}  // namespace berth::fuse
