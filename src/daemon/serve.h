#pragma once

#include <string>

#include "src/config/autofs_import.h"
#include "src/config/config.h"
#include "src/config/drop_in.h"
#include "src/daemon/common/exit_code.h"
#include "src/lib/log/log.h"

namespace berth::daemon {

/// What to serve.
struct ServeOptions {
  std::string config;  ///< file; "": the default configuration
  config::CommandLine command_line;
  log::Level log_level = log::Level::kInfo;
  bool background = false;  ///< return when the namespace is ready; a child serves it
};

/// `berth serve`: the keeper. Mounts the namespace, starts the server, passes signals on, and takes the namespace down
/// when the server has ended. Returns the exit code; errors are written to standard error.
int serve(const ServeOptions& options);

/// The namespace directory that a configuration names. Errors: EINVAL with what is wrong with it, one mistake a line.
Result<std::string> namespace_in(const std::string& file);

}  // namespace berth::daemon
