#pragma once

#include <linux/stat.h>

#include <cstddef>
#include <string>

#include "fuse/files/share_request.h"
#include "fuse/tables/directory_handles.h"
#include "fuse/tables/handle_table.h"
#include "fuse/tables/node_table.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::fuse {

/// The statx(2) mask for a file whose attributes the kernel asks for.
inline constexpr unsigned kAllAttributes = STATX_BASIC_STATS | STATX_BTIME;

/// A descriptor to work with. The owner of this may use it; it is closed elsewhere, or stays cached.
struct FoundFile {
  int fd = -1;
  SharedFd keeps;  ///< null: the lease does
};

/// A file that was opened, and its statx(2) result at that time.
struct OpenedFile {
  UniqueFd fd;
  struct statx x {};
};

/// Finds the real file behind a node: by a descriptor that is there already, else by name, checked to be the same file.
///
/// - Directories get a descriptor of their own, cached with the node, when something is first done in them.
/// - Files get none. A file is used by its name in its parent's descriptor and checked against its inode number, which
///   costs less than to open it with O_PATH first. A removed or replaced file is still found while it is open.
/// - A directory that lost its name past berth is found by its file handle (open_by_handle_at(2)), where that was
///   noted.
///
/// Permissions: directories on the way are found as the daemon, because the kernel has checked them when the caller
/// went there. The file itself is reached as the caller, and as the daemon only where a descriptor grants no
/// permissions yet (O_PATH, statx). The thread acts as either afterwards: call ShareRequest::assume_caller() before the
/// next system call.
///
/// Errors: ESTALE when the node is gone, moved past berth, or another file now; those of the real file system.
/// Threading: any thread may call anything.
class NodeFinder {
 public:
  NodeFinder(NodeTable& nodes, HandleTable& handles) noexcept : nodes_(nodes), handles_(handles) {}

  /// A directory has just been found as `name` in `directory`: notes how to find it again when that name is gone, in
  /// shares where other programs may change names past berth.
  void note_directory(const ShareRequest& request, NodeId node, int directory, const char* name);

  /// A directory, to do something below it. ENOTDIR when the node is none.
  Result<FoundFile> directory(const ShareRequest& request, NodeId node) const { return directory(request, node, 0); }
  /// Anything, by a descriptor that may be O_PATH.
  Result<FoundFile> find_path(const ShareRequest& request, NodeId node) const;
  /// statx(2) of the file.
  Result<struct statx> stat(const ShareRequest& request, NodeId node) const;
  /// Opens it as the caller. `flags`: O_ACCMODE, O_APPEND, O_SYNC, O_DSYNC, O_NOATIME, O_DIRECT, O_DIRECTORY.
  Result<OpenedFile> open(const ShareRequest& request, NodeId node, int flags) const;
  /// The target of a symbolic link.
  Result<std::string> read_link(const ShareRequest& request, NodeId node) const;

 private:
  /// A file by its name in a directory, or, when the name is empty, by the descriptor alone.
  struct Location {
    FoundFile at;
    std::string name;
    NodeTable::Node node;
    [[nodiscard]] bool is_open() const noexcept { return name.empty(); }
  };

  Result<FoundFile> directory(const ShareRequest& request, NodeId node, std::size_t depth) const;
  Result<FoundFile> find_by_file_handle(const ShareRequest& request, NodeId id, const NodeTable::Node& node) const;
  FoundFile cache_directory(const ShareRequest& request, NodeId id, UniqueFd directory) const;
  Result<FoundFile> walk_from_parent(const ShareRequest& request, NodeId id, const NodeTable::Node& node,
                                     std::size_t depth) const;
  Result<Location> locate(const ShareRequest& request, NodeId node) const;
  Result<FoundFile> find_open(const ShareRequest& request, NodeId node) const;
  Result<UniqueFd> find_path_by_name(const ShareRequest& request, const Location& location) const;
  Result<OpenedFile> open_by_name(const ShareRequest& request, const Location& location, int flags) const;
  static void forget_gone_name(const ShareRequest& request, const Location& location);

  NodeTable& nodes_;
  HandleTable& handles_;
  DirectoryHandles directories_;
};

}  // namespace berth::fuse
