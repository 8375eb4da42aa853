#pragma once

#include "manager/backends/berth_backend.h"

namespace berth::manager {

/// Type "bind": a bind mount of a local directory, by open_tree(2) and move_mount(2). With the option "rbind", of what
/// is mounted below it too.
class BindBackend final : public BerthBackend {
 public:
  MountResult mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) override;
};

/// A descriptor of a local directory that is the source of a share.
/// Errors: open(2)'s, ENOTDIR, with a story that names it.
Result<UniqueFd> open_source_directory(const std::string& source);

}  // namespace berth::manager
