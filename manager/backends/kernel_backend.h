#pragma once

#include <utility>

#include "manager/backends/berth_backend.h"
#include "manager/backends/host_view.h"

namespace berth::manager {

/// File systems that the kernel mounts by itself (fsopen(2) and its kin): no process, microseconds.
///
/// A source that is a regular file is an image: it is attached to a loop device that frees itself with the mount,
/// whether or not the options contain `loop`.
class KernelBackend final : public BerthBackend {
 public:
  explicit KernelBackend(HostView host) : host_(std::move(host)) {}
  MountResult mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) override;
  bool is_current(const ShareSpec& spec, const std::string& source, const SourceIdentity& mounted) override;

 private:
  const HostView host_;
};

}  // namespace berth::manager
