#pragma once

#include "manager/backends/berth_backend.h"

namespace berth::manager {

/// File systems that the kernel mounts by itself (fsopen(2) and its kin): no process, microseconds.
///
/// A source that is a regular file is an image: it is attached to a loop device that frees itself with the mount,
/// whether or not the options say `loop`.
class KernelBackend final : public BerthBackend {
 public:
  MountResult mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) override;
};

}  // namespace berth::manager
