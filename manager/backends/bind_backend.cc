#include "manager/backends/bind_backend.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <utility>

#include "manager/backends/host_walk.h"
#include "manager/backends/mount_policy.h"
#include "src/lib/base/path.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"

namespace berth::manager {
namespace {

std::string path_of(int directory) {
  std::error_code error;
  return std::filesystem::read_symlink(sys::proc_path(directory), error).string();
}

/// Where `source` lies in that share: "." for its root; "": elsewhere.
std::string part_of(const HostView& host, const RequiredShare& share, const std::string& source) {
  const std::string root = host.shares + "/" + share.name;
  if (host.shares.empty() || !is_below(source, root)) return "";
  const std::size_t begin = source.find_first_not_of('/', root.size());
  return begin == std::string::npos ? "." : source.substr(begin);
}

/// A directory of a share that this one requires, in that share's own mount: nothing is asked through the namespace. No
/// symbolic link leads out of it.
Result<UniqueFd> bind_of_part(const HostView& host, const RequiredShare& of, const std::string& source,
                              const MountOptions& options) {
  const std::string part = part_of(host, of, source);
  const Result<UniqueFd> directory = sys::open_beneath(of.root, part.c_str(), O_PATH | O_DIRECTORY);
  if (!directory) return fail(directory.error().within("cannot open the source " + quote(source)));
  Result<UniqueFd> tree = bind_of(directory->get(), source, options);
  if (tree || tree.error().code() != EINVAL) return tree;
  // The root of a share of type "dir" is in a mount of the host.
  return in_host(host, [&] { return bind_of(directory->get(), source, options); });
}

Result<RealMount> bind(const HostView& host, const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  const MountOptions options = policed_options(spec);
  for (const RequiredShare& of : attempt.required) {
    if (part_of(host, of, source).empty()) continue;
    return attach_at_berth(TRY(bind_of_part(host, of, source, options)), source, attempt.berth);
  }
  RealMount noted;
  const auto clone = [&]() -> Result<UniqueFd> {
    const UniqueFd directory = TRY(open_source_directory(host, source, options.recursive_bind, noted));
    return bind_of(directory.get(), source, options);
  };
  UniqueFd tree = TRY(in_host(host, clone));
  RealMount made = TRY(attach_at_berth(std::move(tree), source, attempt.berth));
  made.parents = std::move(noted.parents);
  made.way = std::move(noted.way);
  made.identity = noted.identity;
  return made;
}

}  // namespace

Result<SourceIdentity> identity_of(int file) {
  const struct statx found = TRY(sys::stat_at(file, "", STATX_INO));
  return SourceIdentity{.device = makedev(found.stx_dev_major, found.stx_dev_minor), .inode = found.stx_ino};
}

Result<UniqueFd> bind_of(int directory, const std::string& source, const MountOptions& options) {
  // Not by its path, which may lead elsewhere by now.
  return sys::make_bind(sys::proc_path(directory), options).map_error([&](const Error& error) {
    return Error(error.code()).within("bind of the source " + quote(source));
  });
}

Result<UniqueFd> open_source_directory(const HostView& host, const std::string& source, bool with_mounts,
                                       RealMount& mount) {
  Result<WalkedPath> found = walk_on_host(host, source, WalkTo::kDirectory);
  if (!found) {
    if (found.error().code() == ENOTDIR) {
      return fail(ENOTDIR, "the source " + quote(source) + " is not a directory; a share shows a directory");
    }
    return fail(found.error().within("cannot open the source " + quote(source)));
  }
  if (with_mounts && is_below(host.shown, path_of(found->end.get()))) {
    return fail(ELOOP,
                "the source " + quote(source) + " holds the namespace itself; use a bind, which shows no other mounts");
  }
  mount.identity = TRY(identity_of(found->end.get()));
  std::move(found->way.begin(), found->way.end(), std::back_inserter(mount.way));
  Result<UniqueFd> above = sys::open_at(found->end.get(), "..", O_PATH | O_DIRECTORY);
  if (!above) return fail(above.error().within("cannot look into the source " + quote(source)));
  mount.parents.push_back(*std::move(above));
  return std::move(found->end);
}

bool is_still(const HostView& host, const std::string& source, const SourceIdentity& mounted) {
  const Result<SourceIdentity> found = in_host(host, [&]() -> Result<SourceIdentity> {
    RealMount noted;
    TRY(open_source_directory(host, source, false, noted));
    return noted.identity;
  });
  return found && *found == mounted;
}

bool has_source_directory(const HostView& host, const ShareSpec& spec) {
  RealMount noted;
  const Result<UniqueFd> found =
      in_host(host, [&] { return open_source_directory(host, spec.sources().front(), false, noted); });
  // What is there and cannot be opened is for the mount to report.
  return found || (found.error().code() != ENOENT && found.error().code() != ENOTDIR);
}

bool BindBackend::has_source(const ShareSpec& spec) { return has_source_directory(host_, spec); }

bool BindBackend::is_current(const ShareSpec& /*spec*/, const std::string& source, const SourceIdentity& mounted) {
  return is_still(host_, source, mounted);
}

MountResult BindBackend::mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  Result<RealMount> made = bind(host_, spec, source, attempt);
  if (!made) return tl::unexpected(failed_step(made.error()));
  return std::move(*made);
}

}  // namespace berth::manager
