#pragma once

#include <optional>
#include <utility>

#include "manager/backends/host_view.h"
#include "manager/model/backend.h"

namespace berth::manager {

/// Type "dir": a local directory as it is. Nothing is mounted; RealMount::id is 0.
///
/// A read-only one is a clone of the directory's mount that is attached nowhere, read-only, and gone with its
/// descriptor. So the kernel answers EROFS, and no other code has to check.
class DirBackend final : public Backend {
 public:
  explicit DirBackend(HostView host) : host_(std::move(host)) {}
  tl::expected<RealMount, AttemptFailure> mount(const ShareSpec& spec, const Attempt& attempt) override;
  /// Never anything: nothing is mounted at a berth.
  Result<std::optional<RealMount>> find(const ShareSpec& spec, const Attempt& attempt) override;
  Result<bool> is_there(const Attempt& attempt) override;
  Result<> unmount(const ShareSpec& spec, RealMount& mount, const Attempt& attempt, bool force) override;
  [[nodiscard]] bool needs_berth() const noexcept override { return false; }

  bool is_current(const ShareSpec& spec, const std::string& source, const SourceIdentity& mounted) override;
  bool has_source(const ShareSpec& spec) override;

 private:
  const HostView host_;
};

}  // namespace berth::manager
