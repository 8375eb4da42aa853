#pragma once

#include "src/config/config.h"
#include "src/config/section.h"

namespace berth::config {

/// Reads [berth]: the daemon's settings, and what shares have by default.
void read_daemon_section(Section& section, Settings& settings, manager::SharePolicy& defaults);

/// Reads [control].
void read_control_section(Section& section, ControlSettings& control, Accounts& accounts);

/// The keys of [berth], for advice on a key in a wrong place.
const std::vector<std::string_view>& daemon_keys();

/// `path` absolute (from the working directory when it is not) and without "." and "..", double and trailing '/'.
std::string normal_path(const std::string& path);

/// Whether `path`, which is absolute, is `directory` or lies below it, by their names alone: nothing is looked up.
bool is_inside(std::string_view path, std::string_view directory);

}  // namespace berth::config
