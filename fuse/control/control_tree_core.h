#pragma once

#include <memory>
#include <optional>
#include <string>

#include "fuse/control/attach_requests.h"
#include "fuse/control/control_files.h"
#include "fuse/control/control_handles.h"
#include "fuse/control/control_nodes.h"
#include "fuse/control/control_tree.h"
#include "fuse/control/event_log.h"
#include "fuse/control/inherited_paths.h"
#include "fuse/control/share_logs.h"

namespace berth::fuse {

/// What ControlTree is made of. The requests that wait for the manager hold it too.
class ControlTree::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(manager::Manager& of, const Clock& clock, ControlSetup told)
      : manager(of),
        setup(std::move(told)),
        // The kernel may know nodes of control files from earlier servers: those of this one begin elsewhere.
        nodes(std::uint64_t{setup.servers} << 12),
        events(setup.events),
        logs(setup.logs),
        handles((std::uint64_t{setup.servers} << 32) + 1),
        files(of, clock, setup) {}

  /// A path that is there, and the share that it is of (null: of none).
  struct Found {
    std::shared_ptr<const ControlPath> path;
    std::shared_ptr<manager::Share> share;
  };
  /// Errors: ESTALE when the kernel cannot know the node, or what it was is gone.
  [[nodiscard]] Result<Found> find(NodeId node);
  /// Errors: ENOENT, ENAMETOOLONG.
  [[nodiscard]] Result<ControlPath> find_child(const Found& parent, const char* name) const;

  [[nodiscard]] struct stat attributes_of(const ControlPath& path) const;
  /// An entry with one look-up more; `apart`: of a node of its own (ControlNodes::look_up_apart).
  [[nodiscard]] Entry make_entry(const ControlPath& path, bool apart = false);
  /// Errors: EACCES, and those of ControlHandles::add().
  Result<std::uint64_t> open_file(const Found& found, int flags, const sys::Identity& caller);
  Result<std::uint64_t> open_directory(const Found& found, const sys::Identity& caller);
  /// What `node` was opened as; one of a dead server's is made afresh, for `caller`. Null: there is no such handle.
  std::shared_ptr<ControlHandle> handle_of(NodeId node, std::uint64_t number, const sys::Identity& caller);
  /// Answers a READDIR or READDIRPLUS.
  void list_page(Reply reply, NodeId node, std::uint64_t handle, std::size_t size, off_t offset, bool plus);
  /// Whether `caller` may change anything.
  [[nodiscard]] bool may_change(const sys::Identity& caller) const;

  /// Answers with the entry of what was made, and takes the look-up back if the kernel does not want it any more.
  void answer_entry(Reply reply, const ControlPath& path);

  // What waits for the manager.
  void run_word(Reply reply, const std::shared_ptr<manager::Share>& share, std::span<const char> written);
  void run_host_word(Reply reply, std::span<const char> written);
  void make_instance(Reply reply, const std::shared_ptr<manager::Share>& share, ControlPath instance);
  void remove_instance(Reply reply, const std::shared_ptr<manager::Share>& share, const ControlPath& instance);
  void attach(Reply reply, const std::shared_ptr<manager::Share>& share, ControlPath volume);
  void detach(Reply reply, const std::shared_ptr<manager::Share>& share, const ControlPath& volume);

  manager::Manager& manager;
  const ControlSetup setup;
  ControlNodes nodes;
  InheritedPaths inherited_paths;
  AttachRequests attach_requests;
  EventLog events;
  ShareLogs logs;
  ControlHandles handles;  ///< after the log that some of them read
  ControlFiles files;

 private:
  [[nodiscard]] mode_t mode_of(ControlPath::Kind kind) const noexcept;
  [[nodiscard]] std::vector<ControlName> names_in(const Found& found) const;
  [[nodiscard]] ControlHandle::Listing list(const Found& found) const;
  std::shared_ptr<ControlHandle> make_handle(const Found& found, const Viewer& viewer);
  [[nodiscard]] std::size_t expected_size_of(const Found& found) const;
  [[nodiscard]] Opener opener_of(const sys::Identity& caller) const;
};

}  // namespace berth::fuse
