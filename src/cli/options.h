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

/// The options of `berth serve` and `mount.berth`.
struct ServeOptions {
  std::string config;               ///< absolute; empty: none
  std::string namespace_directory;  ///< absolute; empty: the configuration's
  std::string state_dir;            ///< absolute; empty: the configuration's, else none
  std::string log_level = "info";   ///< "debug", "info", "warning", "error"
  std::vector<QuickShare> shares;
  bool background = false;  ///< return when the namespace is ready, and serve on behind the caller's back
  friend bool operator==(const ServeOptions&, const ServeOptions&) = default;
};

/// The options of `berth check`.
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
