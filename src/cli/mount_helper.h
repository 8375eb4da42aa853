#pragma once

#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "src/cli/command.h"
#include "src/cli/options.h"

namespace berth::cli {

/// What mount(8) asks of its helper for the type "berth".
struct MountRequest {
  ServeOptions serve;
  bool fake = false;  ///< -f: check only
};

/// Understands "SOURCE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]" (mount(8), "EXTERNAL HELPERS"), without the
/// program's name. SOURCE says nothing. Options that are for mount(8) and systemd.mount(5) themselves are ignored; options
/// that would promise something that does not happen (ro, noexec, remount) are refused.
tl::expected<MountRequest, NoCommand> parse_mount_request(const std::vector<std::string>& arguments);

}  // namespace berth::cli
