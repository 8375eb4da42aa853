#pragma once

#include <string>

/// Where files of berth are by default: those of root in /etc, /var/lib and /run, those of an ordinary user where the
/// XDG Base Directory Specification says. Absolute paths.
namespace berth::sys {

/// The configuration: "/etc/berth/berth.toml", "~/.config/berth/berth.toml".
[[nodiscard]] std::string default_configuration_file();
/// Where attachments are kept: "/var/lib/berth", "~/.local/state/berth".
[[nodiscard]] std::string default_state_directory();
/// An empty directory for mountpoints: "/run/berth", "/run/user/1000/berth".
[[nodiscard]] std::string default_run_directory();

}  // namespace berth::sys
