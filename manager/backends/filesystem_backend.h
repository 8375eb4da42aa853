#pragma once

#include "manager/backends/helper_backend.h"
#include "manager/backends/kernel_backend.h"

namespace berth::manager {

/// Every type that mount(8) knows: through mount(8) where a helper exists or is needed, else by system calls. The
/// choice is made anew for each attempt, so that a helper installed meanwhile is used.
class FilesystemBackend final : public BerthBackend {
 public:
  explicit FilesystemBackend(const HostView& host) : kernel_(host), helper_(host) {}
  MountResult mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) override;
  bool is_current(const ShareSpec& spec, const std::string& source, const SourceIdentity& mounted) override {
    return kernel_.is_current(spec, source, mounted);
  }
  [[nodiscard]] Secrets secrets_of(const ShareSpec& spec) const override { return helper_.secrets_of(spec); }

 private:
  KernelBackend kernel_;
  HelperBackend helper_;
};

}  // namespace berth::manager
