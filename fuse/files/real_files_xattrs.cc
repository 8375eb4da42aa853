#include <sys/xattr.h>

#include <cerrno>
#include <optional>
#include <string_view>

#include "fuse/files/real_files.h"
#include "fuse/kept/apply_once.h"
#include "fuse/session/operations.h"
#include "src/lib/sys/file.h"

// By /proc/self/fd, because the calls that take a descriptor need one that was opened for reading (xattr(7)).
namespace berth::fuse {
namespace {

Result<std::size_t> to_size(ssize_t result) noexcept {
  if (result < 0) return fail_errno();
  return static_cast<std::size_t>(result);
}

}  // namespace

/// False on a file system whose root answers EOPNOTSUPP. A file of it may answer anything (EIO, rclone 1.60): `ls` does
/// not ask any more after EOPNOTSUPP, which berth must not answer, because the caller's kernel takes it for a refusal.
bool RealFiles::may_have_list(const ShareRequest& request, NodeId node) const {
  if (request.share.has_access_lists()) return true;
  const std::optional<NodeTable::Node> known = NodeTable::is_root(node) ? std::nullopt : nodes_.find(node);
  return known && known->file.device != 0;  // another file system in the share
}

Result<std::size_t> RealFiles::get_xattr(const ShareRequest& request, NodeId node, const char* name,
                                         std::span<char> value) {
  if (is_access_list(name) && !may_have_list(request, node)) return fail(ENODATA);
  const FoundFile at = TRY(finder_.find_path(request, node));
  TRY_VOID(request.assume_caller());
  Result<std::size_t> size = to_size(::getxattr(sys::proc_path(at.fd).c_str(), name, value.data(), value.size()));
  if (!size && size.error().code() == EOPNOTSUPP && is_access_list(name)) return fail(ENODATA);
  return size;
}

Result<std::size_t> RealFiles::list_xattrs(const ShareRequest& request, NodeId node, std::span<char> names) {
  const FoundFile at = TRY(finder_.find_path(request, node));
  TRY_VOID(request.assume_caller());
  return to_size(::listxattr(sys::proc_path(at.fd).c_str(), names.data(), names.size()));
}

Result<> RealFiles::set_xattr(const ShareRequest& request, NodeId node, const char* name, std::span<const char> value,
                              int flags) {
  const FoundFile at = TRY(finder_.find_path(request, node));
  TRY_VOID(request.assume_caller());
  const std::string path = sys::proc_path(at.fd);
  if ((flags & XATTR_CREATE) != 0 && CurrentRequest::is_noted() && !once::had_intent(IntentRecord::kMake) &&
      ::getxattr(path.c_str(), name, nullptr, 0) < 0) {
    CurrentRequest::note_intent(IntentRecord::kMake);
  }
  crash_point("xattr-noted");
  const int set = ::setxattr(path.c_str(), name, value.data(), value.size(), flags);
  const int code = errno;
  if (flags != 0) CurrentRequest::note_change_ended(set == 0 ? 0 : code);
  crash_point("xattr-done");
  if (set == 0 || (code == EEXIST && once::had_intent(IntentRecord::kMake))) return {};
  return fail(code);
}

Result<> RealFiles::remove_xattr(const ShareRequest& request, NodeId node, const char* name) {
  const FoundFile at = TRY(finder_.find_path(request, node));
  const auto remove = [&]() -> Result<> {
    const int code = ::removexattr(sys::proc_path(at.fd).c_str(), name) == 0 ? 0 : errno;
    CurrentRequest::note_change_ended(code);
    if (code != 0) return fail(code);
    return {};
  };
  // The caller's kernel refuses this one to every caller without CAP_SETFCAP. But it removes the attribute itself, with
  // the credentials of a caller that truncates or chowns a file that has it.
  if (std::string_view(name) == "security.capability") {
    const sys::AsDaemon as_daemon;
    return remove();
  }
  TRY_VOID(request.assume_caller());
  if (CurrentRequest::is_noted() && !once::had_intent(IntentRecord::kRemove) &&
      ::getxattr(sys::proc_path(at.fd).c_str(), name, nullptr, 0) >= 0) {
    CurrentRequest::note_intent(IntentRecord::kRemove);
  }
  crash_point("xattr-noted");
  Result<> removed = remove();
  crash_point("xattr-done");
  if (!removed && removed.error().code() == ENODATA && once::had_intent(IntentRecord::kRemove)) return {};
  return removed;
}

}  // namespace berth::fuse
