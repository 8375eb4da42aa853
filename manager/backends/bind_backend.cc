#include "manager/backends/bind_backend.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "manager/backends/mount_policy.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"

namespace berth::manager {
namespace {

Result<RealMount> bind(const ShareSpec& spec, const std::string& source, const std::string& berth) {
  const sys::MountOptions options = TRY(policed_options(spec));
  TRY(open_source_directory(source));
  return attach_at_berth(TRY(sys::make_bind(source, options)), source, berth);
}

}  // namespace

Result<UniqueFd> open_source_directory(const std::string& source) {
  Result<UniqueFd> directory = sys::open_at(AT_FDCWD, source.c_str(), O_PATH | O_DIRECTORY);
  if (directory) return directory;
  if (directory.error().code() == ENOTDIR) {
    return fail(ENOTDIR, "the source " + quote(source) + " is not a directory; a share shows a directory");
  }
  return fail(directory.error().within("cannot open the source " + quote(source)));
}

MountResult BindBackend::mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  Result<RealMount> made = bind(spec, source, attempt.berth);
  if (!made) return tl::unexpected(failed_step(made.error()));
  return std::move(*made);
}

}  // namespace berth::manager
