#pragma once

#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "src/cli/command.h"
#include "src/cli/options.h"
#include "src/cli/world.h"

namespace berth::cli {

/// What mount(8) asks of its helper for the type "berth".
struct MountRequest {
  ServeOptions serve;
  bool fake = false;      ///< -f: check only
  bool remount = false;   ///< "remount": a namespace that exists gets these options
  bool says_how = false;  ///< the options include config, share, state-dir or log-level
};

/// Understands "SOURCE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]" (mount(8), "EXTERNAL HELPERS"), without the
/// program's name. SOURCE has no meaning. Options that are for mount(8) and systemd.mount(5) themselves are ignored;
/// options that would promise something that does not happen (ro, noexec) are refused.
tl::expected<MountRequest, NoCommand> parse_mount_request(const std::vector<std::string>& arguments);

/// Remounts: nothing of a namespace changes while it is mounted, so this succeeds where nothing need change. `asked` is
/// complete. Errors: EINVAL with a story: which option differs, and what to do; ENOENT: no namespace is mounted there.
Result<> remount(const MountRequest& request, const ServeOptions& asked, const World& world);

}  // namespace berth::cli
