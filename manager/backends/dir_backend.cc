#include "manager/backends/dir_backend.h"

#include <utility>

#include "manager/backends/berth_backend.h"
#include "manager/backends/bind_backend.h"
#include "manager/backends/mount_policy.h"

namespace berth::manager {
namespace {

/// In the host's mount namespace.
Result<RealMount> open_directory(const HostView& host, const ShareSpec& spec, const std::string& source) {
  RealMount made;
  made.root = TRY(open_source_directory(host, source, true, made));
  if (spec.policy().read_only) {
    MountOptions options = policed_options(spec);
    options.recursive_bind = true;  // as it is: with what is mounted below it
    made.root = TRY(bind_of(made.root.get(), source, options));
  }
  made.source = source;
  return made;
}

}  // namespace

tl::expected<RealMount, AttemptFailure> DirBackend::mount(const ShareSpec& spec, const Attempt& attempt) {
  return try_sources(spec, attempt, [&](const std::string& source, const Attempt&) -> MountResult {
    Result<RealMount> made = in_host(host_, [&] { return open_directory(host_, spec, source); });
    if (!made) return tl::unexpected(failed_step(made.error()));
    return std::move(*made);
  });
}

bool DirBackend::is_current(const ShareSpec& /*spec*/, const std::string& source, const SourceIdentity& mounted) {
  return is_still(host_, source, mounted);
}

bool DirBackend::has_source(const ShareSpec& spec) { return has_source_directory(host_, spec); }

Result<std::optional<RealMount>> DirBackend::find(const ShareSpec&, const Attempt&) { return std::nullopt; }
Result<bool> DirBackend::is_there(const Attempt&) { return false; }

Result<> DirBackend::unmount(const ShareSpec&, RealMount& mount, const Attempt&, bool) {
  mount = RealMount{};
  return {};
}

}  // namespace berth::manager
