#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "src/autofs/entry.h"
#include "src/autofs/lines.h"
#include "src/lib/base/result.h"

namespace berth::autofs {

/// Where a map comes from.
struct MapSource {
  std::string type;  ///< "file", "program", "hosts", "null", "dir", or one that is not read here ("yp"); "": a file or
                     ///< a program, whatever `name` is
  std::string format;  ///< "sun", "amd", "hesiod"; "": sun
  std::string name;    ///< a path, for files and programs; else what the type understands

  friend bool operator==(const MapSource&, const MapSource&) = default;
};

/// What the master map says about all entries of a map.
struct MapOptions {
  std::vector<std::string> mount_options;       ///< to be prepended to each entry's
  Variables variables;                          ///< -DNAME=VALUE
  std::optional<std::chrono::seconds> timeout;  ///< --timeout; 0: never unmounted
  std::optional<std::chrono::seconds> negative_timeout;
  std::optional<bool> browse;
  bool slashify_colons = true;
  bool append_options = true;    ///< of autofs.conf: an entry's options come behind `mount_options`, not in their place
  std::vector<std::string> own;  ///< other options of automount's: "symlink", "--mode 0755", "--debug"

  friend bool operator==(const MapOptions&, const MapOptions&) = default;
};

/// An entry of the master map.
struct MasterEntry {
  std::string mount_point;         ///< absolute, without a slash at its end; "/-": a direct map
  std::vector<MapSource> sources;  ///< several: "multi", looked through in their order
  MapOptions options;

  friend bool operator==(const MasterEntry&, const MasterEntry&) = default;
};

/// Errors: EINVAL with a story.
Result<MasterEntry> parse_master_entry(const Line& line);

/// What an include names ("+dir:/etc/auto.master.d", "+auto.home"): `line` without its '+'.
/// Errors: EINVAL with a story.
Result<MapSource> parse_include(const Line& line);

/// Why maps of this source are not read here; "" when they are.
std::string unsupported_reason(const MapSource& source);

}  // namespace berth::autofs
