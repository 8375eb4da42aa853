#pragma once

#include <utility>

#include "manager/backends/berth_backend.h"
#include "manager/backends/host_view.h"

namespace berth::manager {

/// Type "bind": a bind mount of a local directory, by open_tree(2) and move_mount(2). With the option "rbind", of what
/// is mounted below it too.
class BindBackend final : public BerthBackend {
 public:
  explicit BindBackend(HostView host) : host_(std::move(host)) {}
  MountResult mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) override;

  bool is_current(const ShareSpec& spec, const std::string& source, const SourceIdentity& mounted) override;
  bool has_source(const ShareSpec& spec) override;

 private:
  const HostView host_;
};

/// Of an open file or directory. Errors: statx(2)'s.
Result<SourceIdentity> identity_of(int file);

/// Backend::is_current() for local directories.
bool is_still(const HostView& host, const std::string& source, const SourceIdentity& mounted);

/// Backend::has_source() for local directories.
bool has_source_directory(const HostView& host, const ShareSpec& spec);

/// A descriptor of a local directory that is the source of a share; in the host's mount namespace. `with_mounts`: what
/// is mounted below it is to be shown. Adds to `mount` where its source is, and by which way.
/// Errors: open(2)'s, ENOTDIR, with a story that names it; ELOOP where the share would show the namespace that it is
/// in, or the way leads through that.
Result<UniqueFd> open_source_directory(const HostView& host, const std::string& source, bool with_mounts,
                                       RealMount& mount);

/// A bind of that directory, which is attached nowhere. Errors: open_tree(2)'s and mount_setattr(2)'s, with a story
/// that names the source.
Result<UniqueFd> bind_of(int directory, const std::string& source, const MountOptions& options);

}  // namespace berth::manager
