#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "src/lib/base/result.h"
#include "src/sources/ldap/directory.h"

namespace berth::sources {

/// How a directory calls what maps of autofs are made of (autofs.conf(5)).
struct AutomountNames {
  std::string map_class = "automountMap";
  std::string map_name = "automountMapName";
  std::string entry_class = "automount";
  std::string entry_key = "automountKey";
  std::string entry_value = "automountInformation";
};

struct MapsSettings {
  AutomountNames names;
  std::string master = "auto.master";
  std::string namespace_directory = "/volumes";
};

/// The shares that the maps of a directory are.
struct DirectoryShares {
  std::map<std::string, nlohmann::json> shares;
  std::vector<std::string> faults;  ///< what cannot be carried over, for people
};

/// Reads the master map and the maps that it names. Errors: as Directory::search(); ENOENT when there is no master map.
Result<DirectoryShares> read_maps(Directory& directory, const MapsSettings& settings);

}  // namespace berth::sources
