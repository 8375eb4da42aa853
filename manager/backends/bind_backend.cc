#include "manager/backends/bind_backend.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <utility>

#include "manager/backends/mount_policy.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"

namespace berth::manager {
namespace {

std::string path_of(int directory) {
  std::error_code error;
  return std::filesystem::read_symlink(sys::proc_path(directory), error).string();
}

bool is_below(std::string_view path, std::string_view directory) {
  if (directory.empty() || !path.starts_with(directory)) return false;
  return directory == "/" || path.size() == directory.size() || path[directory.size()] == '/';
}

Result<DirectoryIdentity> identity_of(int directory) {
  const struct statx found = TRY(sys::stat_at(directory, "", STATX_INO));
  return DirectoryIdentity{.device = makedev(found.stx_dev_major, found.stx_dev_minor), .inode = found.stx_ino};
}

Result<RealMount> bind(const HostView& host, const ShareSpec& spec, const std::string& source,
                       const std::string& berth) {
  const MountOptions options = policed_options(spec);
  RealMount noted;
  const auto clone = [&]() -> Result<UniqueFd> {
    const UniqueFd directory = TRY(open_source_directory(host, source, options.recursive_bind));
    TRY_VOID(note_source(noted, directory.get()));
    return sys::make_bind(source, options);
  };
  UniqueFd tree = TRY(in_host(host, clone));
  RealMount made = TRY(attach_at_berth(std::move(tree), source, berth));
  made.parent = std::move(noted.parent);
  made.identity = noted.identity;
  return made;
}

}  // namespace

Result<UniqueFd> open_source_directory(const HostView& host, const std::string& source, bool with_mounts) {
  // Before it is opened: the walk would send a request to berth.
  if (is_below(source, host.shown)) return fail(ELOOP, "the source " + quote(source) + " is in the namespace itself");
  Result<UniqueFd> directory = sys::open_at(AT_FDCWD, source.c_str(), O_PATH | O_DIRECTORY);
  if (directory && with_mounts && is_below(host.shown, path_of(directory->get()))) {
    return fail(ELOOP,
                "the source " + quote(source) + " holds the namespace itself; use a bind, which shows no other mounts");
  }
  if (directory) return directory;
  if (directory.error().code() == ENOTDIR) {
    return fail(ENOTDIR, "the source " + quote(source) + " is not a directory; a share shows a directory");
  }
  return fail(directory.error().within("cannot open the source " + quote(source)));
}

Result<> note_source(RealMount& mount, int source) {
  mount.identity = TRY(identity_of(source));
  mount.parent = TRY(sys::open_at(source, "..", O_PATH | O_DIRECTORY));
  return {};
}

bool is_still(const HostView& host, const std::string& source, const DirectoryIdentity& mounted) {
  const Result<DirectoryIdentity> found = in_host(host, [&]() -> Result<DirectoryIdentity> {
    const UniqueFd directory = TRY(open_source_directory(host, source, false));
    return identity_of(directory.get());
  });
  return found && *found == mounted;
}

bool BindBackend::is_current(const std::string& source, const DirectoryIdentity& mounted) {
  return is_still(host_, source, mounted);
}

MountResult BindBackend::mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  Result<RealMount> made = bind(host_, spec, source, attempt.berth);
  if (!made) return tl::unexpected(failed_step(made.error()));
  return std::move(*made);
}

}  // namespace berth::manager
