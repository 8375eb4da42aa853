#include <sys/xattr.h>

#include <cerrno>
#include <string_view>

#include "fuse/operations.h"
#include "fuse/real_tree.h"
#include "src/sys/file.h"

// By /proc/self/fd, for the calls that take a descriptor want one that was opened for reading (xattr(7)).
namespace berth::fuse {
namespace {

Result<std::size_t> to_size(ssize_t result) noexcept {
  if (result < 0) return fail_errno();
  return static_cast<std::size_t>(result);
}

Result<> to_result(int result) noexcept {
  if (result != 0) return fail_errno();
  return {};
}

}  // namespace

Result<std::size_t> RealTree::get_xattr(const Visit& visit, NodeId node, const char* name, std::span<char> value) {
  const Reached at = TRY(finder_.pin(visit, node));
  TRY_VOID(visit.act());
  Result<std::size_t> size = to_size(::getxattr(sys::proc_path(at.fd).c_str(), name, value.data(), value.size()));
  if (!size && size.error().code() == EOPNOTSUPP && is_access_list(name)) return fail(ENODATA);
  return size;
}

Result<std::size_t> RealTree::list_xattrs(const Visit& visit, NodeId node, std::span<char> names) {
  const Reached at = TRY(finder_.pin(visit, node));
  TRY_VOID(visit.act());
  return to_size(::listxattr(sys::proc_path(at.fd).c_str(), names.data(), names.size()));
}

Result<> RealTree::set_xattr(const Visit& visit, NodeId node, const char* name, std::span<const char> value,
                             int flags) {
  const Reached at = TRY(finder_.pin(visit, node));
  TRY_VOID(visit.act());
  return to_result(::setxattr(sys::proc_path(at.fd).c_str(), name, value.data(), value.size(), flags));
}

Result<> RealTree::remove_xattr(const Visit& visit, NodeId node, const char* name) {
  const Reached at = TRY(finder_.pin(visit, node));
  const auto remove = [&] { return to_result(::removexattr(sys::proc_path(at.fd).c_str(), name)); };
  // The caller's kernel refuses this one to everybody without CAP_SETFCAP, but takes it away itself, in the name of
  // whoever truncates or chowns a file that has it.
  if (std::string_view(name) == "security.capability") {
    const sys::AsDaemon as_daemon;
    return remove();
  }
  TRY_VOID(visit.act());
  return remove();
}

}  // namespace berth::fuse
