#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fuse/files/node_finder.h"
#include "fuse/files/visit.h"
#include "fuse/kept/requests.h"
#include "fuse/session/passthrough.h"
#include "fuse/session/reply.h"
#include "fuse/tables/handle_table.h"
#include "fuse/tables/lock_table.h"
#include "fuse/tables/node_table.h"
#include "fuse/tables/recent_listings.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// What is done to the files of a mounted share: nodes and names in, system calls as the caller out.
///
/// An Entry that is answered counts one look-up; who does not get it to the kernel takes it back (forget).
///
/// Errors: the real ones; ESTALE as NodeFinder says.
/// Threading: any thread may call anything.
class RealTree {
 public:
  /// `passthrough`: null where files are not lent to the kernel.
  RealTree(NodeTable& nodes, HandleTable& handles, const LockTable& locks, Passthrough* passthrough) noexcept
      : nodes_(nodes), handles_(handles), locks_(locks), passthrough_(passthrough), finder_(nodes, handles) {}

  /// A negative entry when there is no such name.
  Result<Entry> look_up(const Visit& visit, NodeId parent, const char* name);
  Result<struct statx> attributes(const Visit& visit, NodeId node);
  /// `to_set`: FUSE_SET_ATTR_*. `handle`: null unless the change is asked of an open file.
  Result<struct stat> set_attributes(const Visit& visit, NodeId node, const struct stat& attributes, int to_set,
                                     const Handle* handle);
  Result<std::string> read_link(const Visit& visit, NodeId node) { return finder_.read_link(visit, node); }
  Result<struct statvfs> statistics(const Visit& visit, NodeId node);
  Result<> access(const Visit& visit, NodeId node, int mask);

  // Extended attributes; of reading, the size that it takes. ERANGE when it does not fit; an empty span asks for the size.
  Result<std::size_t> get_xattr(const Visit& visit, NodeId node, const char* name, std::span<char> value);
  Result<std::size_t> list_xattrs(const Visit& visit, NodeId node, std::span<char> names);
  Result<> set_xattr(const Visit& visit, NodeId node, const char* name, std::span<const char> value, int flags);
  Result<> remove_xattr(const Visit& visit, NodeId node, const char* name);

  // New files; the umask, or what the directory has instead (a default ACL), is put to `mode` here.
  Result<Entry> make_node(const Visit& visit, NodeId parent, const char* name, mode_t mode, dev_t device);
  Result<Entry> make_directory(const Visit& visit, NodeId parent, const char* name, mode_t mode);
  Result<Entry> make_symlink(const Visit& visit, NodeId parent, const char* name, const char* target);
  Result<Entry> make_link(const Visit& visit, NodeId node, NodeId new_parent, const char* new_name);

  /// `flags`: 0 or AT_REMOVEDIR.
  Result<> remove(const Visit& visit, NodeId parent, const char* name, int flags);
  Result<> rename(const Visit& visit, NodeId parent, const char* name, NodeId new_parent, const char* new_name,
                  unsigned flags);

  // What is opened is in the table of handles, and answered by its number there. Errors: ENFILE when there are too many.
  Result<Opened> open(const Visit& visit, NodeId node, int flags);
  Result<Opened> open_directory(const Visit& visit, NodeId node, int flags);
  struct Created {
    Entry entry;
    Opened opened;
  };
  Result<Created> create(const Visit& visit, NodeId parent, const char* name, mode_t mode, int flags);
  /// O_TMPFILE. The node is reached by its handles alone until it is given a name.
  Result<Created> create_nameless(const Visit& visit, NodeId parent, mode_t mode, int flags);
  /// Closes a handle; false when there is none of that number and node.
  bool close(std::uint64_t handle, NodeId node);

  /// The entry of a name in an open directory, for a listing: found with one statx(2).
  Result<Entry> entry_in(const Visit& visit, const Handle& directory, const char* name);

  /// Files that the last server had open when it died, for requests of which it is not known what became of them. Before
  /// the first request.
  void set_made(std::vector<FileKey> files) { made_ = std::move(files); }

 private:
  [[nodiscard]] FileKey made_already(int directory, const char* name) const;
  /// The kernel never asks for anything else by name; who else does must not get out of the share.
  static bool is_name(std::string_view name) noexcept;
  [[nodiscard]] bool may_have_list(const Visit& visit, NodeId node) const;
  Result<Entry> remember(const Visit& visit, NodeId parent, const char* name, const struct statx& x, bool fresh);
  /// The same of what was found in `directory`, the parent.
  Result<Entry> remember_in(const Visit& visit, NodeId parent, int directory, const char* name, const struct statx& x,
                            bool fresh);
  Result<Entry> remember_new(const Visit& visit, NodeId parent, const char* name, int directory, mode_t type);
  void follow_rename(const Visit& visit, NodeId parent, int directory, const char* name);
  void remember_removed(const Visit& visit, UniqueFd directory);
  Result<UniqueFd> create_file(const Visit& visit, int directory, const char* name, mode_t mode, int flags,
                               bool& fresh);
  Result<OpenedFile> open_to_execute(const Visit& visit, NodeId node);
  Result<OpenedFile> open_as_daemon(const Visit& visit, NodeId node);
  Opened keep(const Visit& visit, NodeId node, OpenedFile file, int flags, bool fresh = false);
  Created keep_made(const Visit& visit, const Entry& entry, OpenedFile file, int flags, bool fresh);
  [[nodiscard]] bool owes_nothing_at_close(const Visit& visit, const Handle& handle, bool fresh) const;
  BackingId lend(const Visit& visit, NodeId node, const SharedFd& file, const struct statx& x);

  NodeTable& nodes_;
  HandleTable& handles_;
  const LockTable& locks_;
  Passthrough* const passthrough_;
  NodeFinder finder_;
  RecentListings listings_;
  std::vector<FileKey> made_;
};

}  // namespace berth::fuse
