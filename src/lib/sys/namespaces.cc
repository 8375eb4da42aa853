#include "src/lib/sys/namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <thread>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/thread.h"

namespace berth::sys {

Result<> unshare_mount_namespace() {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno();
  if (::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0) {
    // mount(2): EINVAL where the root directory is not that of a mount.
    return errno == EINVAL ? fail(EINVAL, "the root directory is that of a chroot; bind-mount it onto itself first")
                           : fail_errno();
  }
  return {};
}

Result<UniqueFd> current_mount_namespace() noexcept { return open_at(AT_FDCWD, "/proc/thread-self/ns/mnt", O_RDONLY); }

Result<MountNamespaceVisit> MountNamespaceVisit::enter(int mount_namespace) {
  if (::unshare(CLONE_FS) != 0) return fail_errno();
  UniqueFd home = TRY(current_mount_namespace());
  if (mount_namespace >= 0 && ::setns(mount_namespace, CLONE_NEWNS) != 0) {
    return fail(Error::last().within("cannot enter the mount namespace"));
  }
  return MountNamespaceVisit(std::move(home));
}

void MountNamespaceVisit::end() noexcept {
  const UniqueFd home = std::move(home_);
  if (home && ::setns(home.get(), CLONE_NEWNS) != 0) std::abort();
}

Result<> in_mount_namespace(int mount_namespace, const std::function<Result<>()>& work) {
  Result<> result;
  std::thread thread = TRY(start_thread("berth-namespace", [mount_namespace, &work, &result] {
    if (::unshare(CLONE_FS) != 0 || ::setns(mount_namespace, CLONE_NEWNS) != 0) {
      result = fail(errno, "cannot enter the mount namespace");
      return;
    }
    result = work();
  }));
  thread.join();
  return result;
}

Result<> mount_private_tmpfs(const std::string& directory, std::uint64_t max_inodes, const std::string& size) {
  MountOptions options;
  options.attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  options.parameters = {{"mode", "0700"}, {"size", size}, {"nr_inodes", std::to_string(max_inodes)}};
  const UniqueFd mount = TRY(make_mount("tmpfs", "berth", options));
  TRY_VOID(attach_mount(mount.get(), directory));
  // Where the parent is shared, the mount has become so too and would be sent on.
  struct mount_attr attributes {};
  attributes.propagation = MS_PRIVATE;
  if (::mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    const Error error = Error::last();
    static_cast<void>(unmount(directory, MNT_DETACH));
    return fail(error.within("private mount at " + quote(directory)));
  }
  return {};
}

}  // namespace berth::sys
