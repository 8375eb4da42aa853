#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuse/files/node_finder.h"
#include "fuse/files/share_request.h"
#include "fuse/kept/requests.h"
#include "fuse/session/passthrough.h"
#include "fuse/session/reply.h"
#include "fuse/tables/handle_table.h"
#include "fuse/tables/lock_table.h"
#include "fuse/tables/node_table.h"
#include "fuse/tables/recent_listings.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// System calls on the files of a mounted share: nodes and names in, system calls as the caller out.
///
/// An Entry that is answered counts one look-up; if it does not reach the kernel, the code that answers takes it back
/// (forget).
///
/// Errors: the real ones; ESTALE as in NodeFinder.
/// Threading: any thread may call anything.
class RealFiles {
 public:
  /// `passthrough`: null where no backing files are registered.
  RealFiles(NodeTable& nodes, HandleTable& handles, const LockTable& locks, Passthrough* passthrough) noexcept
      : nodes_(nodes), handles_(handles), locks_(locks), passthrough_(passthrough), finder_(nodes, handles) {}

  /// A negative entry when there is no such name.
  Result<Entry> look_up(const ShareRequest& request, NodeId parent, const char* name);
  Result<struct statx> attributes(const ShareRequest& request, NodeId node);
  /// `to_set`: FUSE_SET_ATTR_*. `handle`: null unless the change is asked of an open file.
  Result<struct stat> set_attributes(const ShareRequest& request, NodeId node, const struct stat& attributes,
                                     int to_set, const Handle* handle);
  Result<std::string> read_link(const ShareRequest& request, NodeId node) { return finder_.read_link(request, node); }
  Result<struct statvfs> statistics(const ShareRequest& request, NodeId node);
  Result<> access(const ShareRequest& request, NodeId node, int mask);

  // Extended attributes; of reading, the size that it takes. ERANGE when it does not fit; an empty span asks for the
  // size.
  Result<std::size_t> get_xattr(const ShareRequest& request, NodeId node, const char* name, std::span<char> value);
  Result<std::size_t> list_xattrs(const ShareRequest& request, NodeId node, std::span<char> names);
  Result<> set_xattr(const ShareRequest& request, NodeId node, const char* name, std::span<const char> value,
                     int flags);
  Result<> remove_xattr(const ShareRequest& request, NodeId node, const char* name);

  // New files; the umask, or what the directory has instead (a default ACL), is put to `mode` here.
  Result<Entry> make_node(const ShareRequest& request, NodeId parent, const char* name, mode_t mode, dev_t device);
  Result<Entry> make_directory(const ShareRequest& request, NodeId parent, const char* name, mode_t mode);
  Result<Entry> make_symlink(const ShareRequest& request, NodeId parent, const char* name, const char* target);
  Result<Entry> make_link(const ShareRequest& request, NodeId node, NodeId new_parent, const char* new_name);

  /// `flags`: 0 or AT_REMOVEDIR.
  Result<> remove(const ShareRequest& request, NodeId parent, const char* name, int flags);
  Result<> rename(const ShareRequest& request, NodeId parent, const char* name, NodeId new_parent, const char* new_name,
                  unsigned flags);

  // What is opened is in the table of handles, and answered by its number there. Errors: ENFILE when there are too
  // many.
  Result<Opened> open(const ShareRequest& request, NodeId node, int flags);
  Result<Opened> open_directory(const ShareRequest& request, NodeId node, int flags);
  struct Created {
    Entry entry;
    Opened opened;
  };
  Result<Created> create(const ShareRequest& request, NodeId parent, const char* name, mode_t mode, int flags);
  /// O_TMPFILE. The node is reached by its handles alone until it is given a name.
  Result<Created> create_nameless(const ShareRequest& request, NodeId parent, mode_t mode, int flags);
  /// Opens the file of `handle`, whose mount is dead, in the mount of `request`, under the same descriptor. It is found
  /// by its path. It is the same file where size, times, mode and owner are what they were when it was opened, or was
  /// last written to by the handle, and the inode where inodes last. A directory is the one that has the path. Locks of
  /// flock(2) end.
  /// Errors: EIO where it is another file, has record locks, or cannot be opened; that of a mount that is dead as well.
  Result<> reopen(const ShareRequest& request, Handle& handle);
  /// Whether the share's policy lets `handle` be opened again.
  [[nodiscard]] static bool may_reopen(const ShareRequest& request, const Handle& handle) noexcept;
  /// `handle`, of `share`, has changed its file: notes how to know it in the next mount.
  void note_written(const KnownShare& share, Handle& handle) const;
  /// Closes a handle; false when there is none of that number and node.
  bool close(std::uint64_t handle, NodeId node);

  /// The entry of a name in an open directory, for a listing: found with one statx(2).
  Result<Entry> entry_in(const ShareRequest& request, const Handle& directory, const char* name);

  /// Files that the last server had open when it died, for requests of which it is not known what became of them.
  /// Before the first request.
  void set_predecessor_files(std::vector<FileKey> files) { predecessor_files_ = std::move(files); }

 private:
  Result<struct statx> attributes_of_reopened(const ShareRequest& request, NodeId node);
  [[nodiscard]] FileKey created_by_predecessor(int directory, const char* name) const;
  /// The kernel never asks for anything else by name; no other request may leave the share.
  static bool is_name(std::string_view name) noexcept;
  [[nodiscard]] bool may_have_list(const ShareRequest& request, NodeId node) const;
  Result<Entry> remember(const ShareRequest& request, NodeId parent, const char* name, const struct statx& x,
                         bool fresh);
  /// The same of what was found in `directory`, the parent.
  Result<Entry> remember_in(const ShareRequest& request, NodeId parent, int directory, const char* name,
                            const struct statx& x, bool fresh);
  Result<Entry> remember_new(const ShareRequest& request, NodeId parent, const char* name, int directory, mode_t type);
  struct OpenedByName {
    std::vector<std::shared_ptr<Handle>> handles;
    std::string path;  ///< below the share's root
  };
  [[nodiscard]] OpenedByName opened_by_name(const ShareRequest& request, NodeId parent, const char* name) const;
  void forget_identity(const OpenedByName& opened) const;
  void follow_rename(const ShareRequest& request, NodeId parent, int directory, const char* name);
  void remember_removed(const ShareRequest& request, UniqueFd directory);
  Result<UniqueFd> create_file(const ShareRequest& request, int directory, const char* name, mode_t mode, int flags,
                               bool& fresh);
  Result<OpenedFile> open_to_execute(const ShareRequest& request, NodeId node);
  Result<OpenedFile> open_as_daemon(const ShareRequest& request, NodeId node);
  Opened keep(const ShareRequest& request, NodeId node, OpenedFile file, int flags, bool fresh = false);
  Created keep_made(const ShareRequest& request, const Entry& entry, OpenedFile file, int flags, bool fresh);
  [[nodiscard]] bool needs_no_flush(const ShareRequest& request, const Handle& handle, bool fresh) const;
  BackingId register_backing(const ShareRequest& request, NodeId node, const SharedFd& file, const struct statx& x);

  NodeTable& nodes_;
  HandleTable& handles_;
  const LockTable& locks_;
  Passthrough* const passthrough_;
  NodeFinder finder_;
  RecentListings listings_;
  std::vector<FileKey> predecessor_files_;
};

}  // namespace berth::fuse
