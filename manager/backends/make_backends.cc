#include "manager/backends/make_backends.h"

#include "manager/backends/bind_backend.h"
#include "manager/backends/command_backend.h"
#include "manager/backends/dir_backend.h"
#include "manager/backends/filesystem_backend.h"

namespace berth::manager {

std::map<ShareKind, std::unique_ptr<Backend>> make_backends() {
  std::map<ShareKind, std::unique_ptr<Backend>> backends;
  backends.emplace(ShareKind::kDir, std::make_unique<DirBackend>());
  backends.emplace(ShareKind::kBind, std::make_unique<BindBackend>());
  backends.emplace(ShareKind::kFilesystem, std::make_unique<FilesystemBackend>());
  backends.emplace(ShareKind::kCommand, std::make_unique<CommandBackend>());
  return backends;
}

}  // namespace berth::manager
