#include <cerrno>
#include <string>
#include <vector>

#include "fuse/session/scratch.h"
#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"

// The operations of ShareFs on extended attributes.
namespace berth::fuse {
namespace {

/// What `read(std::span<char>)` finds, or how much that is where `size` is 0.
template <typename Read>
Result<XattrBytes> read_bytes(std::size_t size, const Read& read) {
  const std::span<char> buffer = size == 0 ? std::span<char>() : scratch(size);
  const std::size_t found = TRY(read(buffer));
  return XattrBytes{found, size == 0 ? buffer : buffer.first(found)};
}

}  // namespace

void ShareFs::getxattr(Reply reply, NodeId node, const char* name, std::size_t size) {
  if (NodeTable::is_root(node) && core_->answer_root_xattr(reply, node, name, size)) return;
  core_->visit(std::move(reply), node, Core::Intent::kLook,
               [core = core_.get(), node, name = std::string(name), size](const Visit& visit) {
                 return read_bytes(size, [&](std::span<char> buffer) {
                   return core->tree.get_xattr(visit, node, name.c_str(), buffer);
                 });
               });
}

void ShareFs::listxattr(Reply reply, NodeId node, std::size_t size) {
  core_->visit(std::move(reply), node, Core::Intent::kLook, [core = core_.get(), node, size](const Visit& visit) {
    return read_bytes(size, [&](std::span<char> buffer) { return core->tree.list_xattrs(visit, node, buffer); });
  });
}

void ShareFs::setxattr(Reply reply, NodeId node, const char* name, std::span<const char> value, int flags) {
  core_->visit(
      std::move(reply), node, Core::Intent::kChange,
      [core = core_.get(), node, name = std::string(name), value = std::vector<char>(value.begin(), value.end()),
       flags](const Visit& visit) { return core->tree.set_xattr(visit, node, name.c_str(), value, flags); });
}

void ShareFs::removexattr(Reply reply, NodeId node, const char* name) {
  core_->visit(std::move(reply), node, Core::Intent::kChange,
               [core = core_.get(), node, name = std::string(name)](const Visit& visit) {
                 return core->tree.remove_xattr(visit, node, name.c_str());
               });
}

}  // namespace berth::fuse
