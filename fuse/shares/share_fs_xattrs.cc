#include <cerrno>
#include <string>
#include <vector>

#include "fuse/session/thread_buffer.h"
#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"

// The operations of ShareFs on extended attributes.
namespace berth::fuse {
namespace {

/// What `read(std::span<char>)` finds, or how much that is where `size` is 0.
template <typename Read>
Result<XattrBytes> read_bytes(std::size_t size, const Read& read) {
  const std::span<char> buffer = size == 0 ? std::span<char>() : thread_buffer(size);
  const std::size_t found = TRY(read(buffer));
  return XattrBytes{found, size == 0 ? buffer : buffer.first(found)};
}

}  // namespace

void ShareFs::getxattr(Reply reply, NodeId node, const char* name, std::size_t size) {
  if (NodeTable::is_root(node) && core_->answer_root_xattr(reply, node, name, size)) return;
  core_->with_share(std::move(reply), node, Core::Access::kRead,
                    [core = core_.get(), node, name = std::string(name), size](const ShareRequest& request) {
                      // `ls -l` of the namespace asks for the access lists of each share.
                      if (NodeTable::is_root(node) && request.own_lease != nullptr) request.own_lease->only_look();
                      return read_bytes(size, [&](std::span<char> buffer) {
                        return core->real_files.get_xattr(request, node, name.c_str(), buffer);
                      });
                    });
}

void ShareFs::listxattr(Reply reply, NodeId node, std::size_t size) {
  core_->with_share(
      std::move(reply), node, Core::Access::kRead, [core = core_.get(), node, size](const ShareRequest& request) {
        return read_bytes(size,
                          [&](std::span<char> buffer) { return core->real_files.list_xattrs(request, node, buffer); });
      });
}

void ShareFs::setxattr(Reply reply, NodeId node, const char* name, std::span<const char> value, int flags) {
  core_->with_share(std::move(reply), node, Core::Access::kModify,
                    [core = core_.get(), node, name = std::string(name),
                     value = std::vector<char>(value.begin(), value.end()), flags](const ShareRequest& request) {
                      return core->real_files.set_xattr(request, node, name.c_str(), value, flags);
                    });
}

void ShareFs::removexattr(Reply reply, NodeId node, const char* name) {
  core_->with_share(std::move(reply), node, Core::Access::kModify,
                    [core = core_.get(), node, name = std::string(name)](const ShareRequest& request) {
                      return core->real_files.remove_xattr(request, node, name.c_str());
                    });
}

}  // namespace berth::fuse
