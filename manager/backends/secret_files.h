#pragma once

#include <string>
#include <vector>

#include "manager/backends/host_view.h"
#include "manager/model/share_spec.h"
#include "src/lib/base/result.h"
#include "src/lib/base/secrets.h"

namespace berth::manager {

/// Most bytes of an `environment_file`, or of a credentials file.
inline constexpr std::size_t kMaxSecretFile = std::size_t{64} << 10;

/// What programs of the share get besides the daemon's environment, "NAME=value": the share's own, and above that its
/// environment_file: lines of NAME=value, with the value in quotes or bare; empty lines and those that begin with '#'
/// are skipped. Blocks on the disk. Errors: open(2)'s; EINVAL for a line that is none of these. No story quotes the
/// file.
Result<std::vector<std::string>> program_environment(const ShareSpec& spec);

/// Everything of the share that must not be shown: ShareSpec::secrets(), and what is in the files that its options,
/// commands and environment name as holding secrets, which are the host's. A file that cannot be read adds nothing,
/// nor does one in the namespace. Blocks on the file systems that these are on: never on a thread that others wait for.
Secrets known_secrets(const HostView& host, const ShareSpec& spec);

}  // namespace berth::manager
