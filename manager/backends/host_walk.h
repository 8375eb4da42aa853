#pragma once

#include <string>
#include <vector>

#include "manager/backends/host_view.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// Where a walk ended, and what it went through; O_PATH descriptors all.
struct WalkedPath {
  UniqueFd end;
  std::vector<UniqueFd> way;  ///< directories and symbolic links, but for "/" and the end
};

enum class WalkTo { kDirectory, kFile };

/// Walks a path of the host one name at a time and follows symbolic links, on a thread that is in the host's mount
/// namespace. It never asks the namespace: a look-up there would be a request to berth, which may wait for the very
/// caller of this, and which could not even be killed with berth. `to`: kFile takes whatever is at the end. May block
/// on every other file system.
/// Errors: open(2)'s; ENOTDIR; ELOOP: too many symbolic links, or the way leads into the namespace.
Result<WalkedPath> walk_on_host(const HostView& host, const std::string& path, WalkTo to);

}  // namespace berth::manager
