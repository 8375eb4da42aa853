#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <utility>
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
  bool strict = false;   ///< warnings make it fail
  bool offline = false;  ///< without a look at the host
  friend bool operator==(const CheckOptions&, const CheckOptions&) = default;
};

/// The options of `berth doctor`.
struct DoctorOptions {
  std::string config;
  bool json = false;
};

/// The options of `berth add`.
struct AddOptions {
  std::string config;               ///< absolute; empty: the default
  std::string namespace_directory;  ///< absolute; empty: the configuration's
  std::string name;
  std::string type;
  std::vector<std::string> sources;
  std::vector<std::string> options;                           ///< of the mount
  std::vector<std::pair<std::string, std::string>> settings;  ///< other keys of the share's section
};

/// The options of `berth remove`.
struct RemoveOptions {
  std::string config, namespace_directory, name;  ///< as above
};

/// The options of `berth import`.
struct ImportOptions {
  std::string file;                 ///< absolute
  std::string namespace_directory;  ///< absolute; empty: as the maps have it
  friend bool operator==(const ImportOptions&, const ImportOptions&) = default;
};

/// A configuration that was made from another program's.
struct Imported {
  std::string text;
  std::size_t shares = 0;
  std::size_t faults = 0;  ///< what is not carried over; comments in the text say it
};

/// A change of the configuration's files that is on disk.
struct ChangedFile {
  std::string path;
  std::string namespace_directory;    ///< that the configuration names; "": none
  std::vector<std::string> warnings;  ///< what `berth check` says of the new share, one line each
  std::function<Result<>()> undo;
};

/// The commands that the command line only starts. Each returns an exit code (exit_code.h).
struct Programs {
  std::function<int(const ServeOptions&)> serve;
  std::function<int(const CheckOptions&)> check;
  std::function<int(const DoctorOptions&)> doctor;
  /// The namespace directory that a configuration names. Errors: EINVAL with the mistakes in it, one a line.
  std::function<Result<std::string>(const std::string& config)> namespace_in;
  /// Write and delete the file of a share. Errors: EINVAL with the mistakes in the configuration, one a line; others
  /// with a story.
  std::function<Result<ChangedFile>(const AddOptions&)> add;
  std::function<Result<ChangedFile>(const RemoveOptions&)> remove;
  /// Reads the maps of autofs. Errors: the master map cannot be read.
  std::function<Result<Imported>(const ImportOptions&)> import_autofs;
};

}  // namespace berth::cli
