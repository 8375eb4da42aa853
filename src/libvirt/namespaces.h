#pragma once

#include <set>
#include <string>
#include <vector>

#include "src/lib/base/result.h"
#include "src/libvirt/plan.h"

namespace berth::libvirt {

/// Where a berth shows shares now: each mount of type fuse.berth, of its root. Errors: those of the mount table.
Result<std::vector<std::string>> find_namespaces();

/// What a namespace has, read from its control tree. It asks no share, and waits for berth's server alone.
struct Seen {
  std::set<std::string> shares;
  SharedAttachments attachments;
};
/// Shares of templates are there only when their names have been looked up, so first the names on the way to each file
/// of the guests are.
/// Errors: those of the control tree: ENOENT, ENOTCONN when it is gone.
Result<Seen> look_into(const std::string& namespace_directory, const Guests& guests);

}  // namespace berth::libvirt
