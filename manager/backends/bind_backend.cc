#include "manager/backends/bind_backend.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

/// Adds the directories and symbolic links that the walk to `path` goes through, but for "/" and the last one, where that is a
/// directory. Errors: open(2)'s; ELOOP.
Result<> add_way(const std::string& path, std::vector<UniqueFd>& way) {
  constexpr int kMostLinks = 40;  // MAXSYMLINKS, path_resolution(7)
  UniqueFd at = TRY(sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  std::string rest = path;
  for (int links = 0; !rest.empty();) {
    const std::size_t begin = rest.find_first_not_of('/');
    if (begin == std::string::npos) return {};
    const std::size_t end = std::min(rest.find('/', begin), rest.size());
    const std::string name = rest.substr(begin, end - begin);
    rest.erase(0, end);
    UniqueFd next = TRY(sys::open_at(at.get(), name.c_str(), O_PATH | O_NOFOLLOW));
    std::array<char, PATH_MAX> target{};
    const ssize_t length = ::readlinkat(next.get(), "", target.data(), target.size());
    const bool is_last = rest.find_first_not_of('/') == std::string::npos;
    if (length < 0 && is_last) return {};
    if (length > 0) {
      if (++links > kMostLinks) return fail(ELOOP);
      rest.insert(0, std::string(target.data(), static_cast<std::size_t>(length)));
      if (rest.front() == '/') at = TRY(sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
    } else {
      UniqueFd copy(::fcntl(next.get(), F_DUPFD_CLOEXEC, 0));
      if (!copy) return fail_errno();
      at = std::move(copy);
    }
    way.push_back(std::move(next));
  }
  return {};
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
    TRY_VOID(note_source(noted, source, directory.get()));
    return sys::make_bind(source, options);
  };
  UniqueFd tree = TRY(in_host(host, clone));
  RealMount made = TRY(attach_at_berth(std::move(tree), source, berth));
  made.way = std::move(noted.way);
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

Result<> note_source(RealMount& mount, const std::string& source, int directory) {
  mount.identity = TRY(identity_of(directory));
  mount.way.push_back(TRY(sys::open_at(directory, "..", O_PATH | O_DIRECTORY)));
  return add_way(source, mount.way);
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
