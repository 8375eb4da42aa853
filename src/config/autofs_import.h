#pragma once

#include <cstddef>
#include <string>

#include "src/lib/base/result.h"

namespace berth::config {

/// A configuration that was made from the maps of autofs.
struct ImportedMaps {
  std::string text;  ///< TOML that load() takes, with a comment for each thing that is not carried over
  std::size_t shares = 0;
  std::size_t faults = 0;  ///< entries and maps that are not carried over
};

/// Reads the master map `file` and the maps it names. `namespace_directory`: where the shares will be; "": where the
/// maps are mounted if that is one place, else "/volumes".
/// Errors: those of open(2) for the master map, with a story.
Result<ImportedMaps> import_autofs(const std::string& file, std::string namespace_directory);

}  // namespace berth::config
