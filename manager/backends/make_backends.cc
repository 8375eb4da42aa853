#include "manager/backends/make_backends.h"

#include "manager/backends/bind_backend.h"
#include "manager/backends/command_backend.h"
#include "manager/backends/dir_backend.h"
#include "manager/backends/filesystem_backend.h"

namespace berth::manager {

std::map<ShareKind, std::unique_ptr<Backend>> make_backends(const HostView& host) {
  std::map<ShareKind, std::unique_ptr<Backend>> backends;
  backends.emplace(ShareKind::kDir, std::make_unique<DirBackend>(host));
  backends.emplace(ShareKind::kBind, std::make_unique<BindBackend>(host));
  backends.emplace(ShareKind::kFilesystem, std::make_unique<FilesystemBackend>(host));
  backends.emplace(ShareKind::kCommand, std::make_unique<CommandBackend>(host));
  return backends;
}

}  // namespace berth::manager
