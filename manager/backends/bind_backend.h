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

  bool is_current(const std::string& source, const DirectoryIdentity& mounted) override;

 private:
  const HostView host_;
};

/// Says of a mount where its source is, and by which way: in the mount namespace that the source is of. `directory`: an open descriptor
/// of it. Errors: statx(2)'s, open(2)'s, ELOOP.
Result<> note_source(RealMount& mount, const std::string& source, int directory);
/// Backend::is_current() for local directories.
bool is_still(const HostView& host, const std::string& source, const DirectoryIdentity& mounted);

/// A descriptor of a local directory that is the source of a share; in the host's mount namespace. `with_mounts`: what
/// is mounted below it is to be shown.
/// Errors: open(2)'s, ENOTDIR, with a story that names it; ELOOP where the share would show the namespace that it is
/// in.
Result<UniqueFd> open_source_directory(const HostView& host, const std::string& source, bool with_mounts);

}  // namespace berth::manager
