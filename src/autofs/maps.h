#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/autofs/lines.h"
#include "src/autofs/master.h"
#include "src/lib/base/result.h"

namespace berth::autofs {

/// An entry of a map, not yet taken apart.
struct MapEntry {
  std::string key;  ///< "*": all that is not there otherwise; in a direct map an absolute path
  std::string value;
  std::string file;
  std::uint32_t line = 0;
  std::vector<std::string> through;  ///< Map::through, and the files of the map that include `file`
};

/// A map at its place.
struct Map {
  std::string mount_point;         ///< "/-": the keys are paths
  std::vector<MapSource> sources;  ///< with types and paths; of programs and "hosts" no entries are known
  MapOptions options;
  std::vector<MapEntry> entries;  ///< of the sources that are files; each key once, the first that is found
  std::string file;               ///< where the map is named
  std::uint32_t line = 0;
  std::vector<std::string> through;  ///< `file` and what led to it, without the master map itself
};

/// What was met in reading.
struct Findings {
  std::vector<Fault> faults;
  std::vector<std::string> files;  ///< that were read; one can be there twice
};

struct Maps {
  std::vector<Map> maps;
  Findings findings;
};

/// Reads a master map, and the files that it names and includes: names without a slash in the directory of the master
/// map, the way automount looks in /etc. Times that it does not say are those of autofs.conf beside it. Programs are
/// not run; a Map with one has it in `sources`.
/// Errors: those of open(2) for the master map itself, EFBIG beyond kMaxFileSize, with a story.
Result<Maps> load_master(const std::string& file);

/// Reads one map into `map.entries`, as load_master does. `directory`: where names without a slash are looked for.
void load_sources(Map& map, const std::string& directory, Findings& findings);

/// Most bytes of one file, and most files of one master map.
inline constexpr std::size_t kMaxFileSize = std::size_t{16} << 20;
inline constexpr std::size_t kMaxFiles = 1000;

}  // namespace berth::autofs
