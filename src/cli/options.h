#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/lib/base/result.h"

namespace berth::cli {

/// `--share NAME=DIR`: a bind share that no configuration mentions.
struct QuickShare {
  std::string name;
  std::string directory;  ///< absolute
  friend bool operator==(const QuickShare&, const QuickShare&) = default;
};

/// What `berth serve` and `mount.berth` were told.
struct ServeOptions {
  std::string config;               ///< absolute; empty: none
  std::string namespace_directory;  ///< absolute; empty: what the configuration says
  std::string state_dir;            ///< absolute; empty: what the configuration says, else none
  std::string log_level = "info";   ///< "debug", "info", "warning", "error"
  std::vector<QuickShare> shares;
  bool background = false;  ///< return when the namespace is ready, and serve on behind the caller's back
  friend bool operator==(const ServeOptions&, const ServeOptions&) = default;
};

/// What `berth check` was told.
struct CheckOptions {
  std::string config;
  friend bool operator==(const CheckOptions&, const CheckOptions&) = default;
};

/// The commands that the command line only starts. Each returns an exit code (exit_code.h).
struct Programs {
  std::function<int(const ServeOptions&)> serve;
  std::function<int(const CheckOptions&)> check;
  /// The namespace directory that a configuration names. Errors: EINVAL with the mistakes in it, one a line.
  std::function<Result<std::string>(const std::string& config)> namespace_in;
};

}  // namespace berth::cli
