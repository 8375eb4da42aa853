#pragma once

#include <string>
#include <vector>

#include "src/autofs/entry.h"
#include "src/lib/base/result.h"

/// Mounts that lie within one another. A share has no other one within it, and where a mount is not made, its place is
/// a directory of the outer one: another directory than is meant.
namespace berth::autofs {

/// A mount that can be a share.
struct Settled {
  Mount mount;
  std::vector<std::string> notes = {};  ///< what is otherwise
};

/// An export of a host.
struct Export {
  Mount mount;
  std::string clients;  ///< that may mount it, as showmount(8) says it
};

/// The mounts of one entry, none within another. What NFS 4 shows within the outer one, because it is the same
/// directory of the same server, is left to that, which asks for NFS 4 (vers=4) where no version is said.
/// Errors: EINVAL with a story: one lies within another that does not show it.
Result<std::vector<Settled>> settle(std::vector<Mount> mounts);

/// The same of what a host exports. An export that does not show those within it, for NFS 4 is not used or a client
/// that may mount them may not mount it, is left out, so that they are there.
std::vector<Settled> settle(std::vector<Export> exports);

}  // namespace berth::autofs
