#include "manager/backends/filesystem_backend.h"

#include "manager/backends/mount_helpers.h"

namespace berth::manager {

MountResult FilesystemBackend::mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  if (Result<> may = check_may_mount(spec.type()); !may) return tl::unexpected(AttemptFailure{.error = may.error()});
  if (wants_mount_program(spec.type(), source)) return helper_.mount_source(spec, source, attempt);
  return kernel_.mount_source(spec, source, attempt);
}

}  // namespace berth::manager
