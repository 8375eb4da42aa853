#include "src/sources/ldap/automount_maps.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <set>
#include <utility>

#include "src/autofs/maps.h"
#include "src/autofs/master.h"
#include "src/autofs/shares.h"
#include "src/lib/base/text.h"

namespace berth::sources {
namespace {

using Json = nlohmann::json;

/// What is in the directory: entries by the name of the map that they are below.
struct Found {
  std::map<std::string, std::string> name_of;                    ///< of a map, by its DN
  std::map<std::string, std::vector<autofs::MapEntry>> entries;  ///< by DN of the map
  std::vector<std::string> faults;

  /// The DN of a map, by its name or its DN; "" where it is not there.
  [[nodiscard]] std::string find(const std::string& named) const {
    if (named.find('=') != std::string::npos) {
      const std::string dn = normal_name(named);
      return name_of.contains(dn) ? dn : "";
    }
    for (const auto& [dn, name] : name_of) {
      if (name == named) return dn;
    }
    return "";
  }
};

/// For people. Not its DN: "automountKey=alice" is masked as a secret where it is shown.
std::string place_of(const std::string& key, const DirectoryEntry& entry) { return quote(key) + " of " + entry.parent; }

Result<Found> read_all(Directory& directory, const AutomountNames& names) {
  Found found;
  TRY_VOID(directory.search("(objectClass=" + names.map_class + ")", {names.map_name}, [&](const DirectoryEntry& map) {
    if (!map.values[0].empty()) found.name_of.emplace(map.dn, map.values[0].front());
  }));
  TRY_VOID(directory.search("(objectClass=" + names.entry_class + ")", {names.entry_key, names.entry_value},
                            [&](const DirectoryEntry& entry) {
                              const auto& keys = entry.values[0];
                              const auto& values = entry.values[1];
                              if (values.size() != 1) {
                                const std::string place = keys.empty() ? entry.dn : place_of(keys.front(), entry);
                                found.faults.push_back(place + ": " + std::to_string(values.size()) + " values of " +
                                                       names.entry_value + ", and not one");
                                return;
                              }
                              // A directory cannot have '*' for all keys, so it has '/'.
                              for (const std::string& key : keys)
                                found.entries[entry.parent].push_back({.key = key == "/" ? "*" : key,
                                                                       .value = values.front(),
                                                                       .file = place_of(key, entry),
                                                                       .line = 0,
                                                                       .through = {}});
                            }));
  for (auto& [map, entries] : found.entries) {
    // In one order, whatever the server's is; of two of a key the first counts.
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
    const auto twice =
        std::unique(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.key == b.key; });
    entries.erase(twice, entries.end());
  }
  return found;
}

/// "auto.home" of "ldap:auto.home", the DN of "ldap://server/automountMapName=..." and "server:automountMapName=...".
std::string map_named_by(std::string name) {
  if (const std::size_t slash = name.rfind('/'); slash != std::string::npos) name.erase(0, slash + 1);
  const std::size_t colon = name.find(':');
  if (colon != std::string::npos && colon < name.find('=')) name.erase(0, colon + 1);
  return name;
}

std::string in_seconds(std::chrono::milliseconds time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + "s";
}

/// All that autofs::translate() sets.
Json json_of(const manager::ShareFields& fields) {
  const manager::SharePolicy& policy = fields.policy;
  Json share{{"type", fields.type}};
  if (!policy.weights.empty()) {
    Json& sources = share["source"] = Json::array();
    for (std::size_t i = 0; i < fields.sources.size(); ++i)
      sources.push_back({{"source", fields.sources[i]}, {"weight", policy.weights[i]}});
  } else if (fields.sources.size() == 1) {
    share["source"] = fields.sources.front();
  } else if (!fields.sources.empty()) {
    share["source"] = fields.sources;
  }
  if (!fields.options.empty()) share["options"] = fields.options;
  if (policy.read_only) share["read_only"] = true;
  if (policy.hidden) share["hidden"] = true;
  if (policy.allow_suid) share["allow_suid"] = true;
  if (policy.allow_devices) share["allow_devices"] = true;
  if (policy.idle_timeout_is_own) share["idle_timeout"] = in_seconds(policy.idle_timeout);
  if (fields.name.ends_with('*') && policy.negative_timeout != manager::SharePolicy().negative_timeout)
    share["negative_timeout"] = in_seconds(policy.negative_timeout);
  return share;
}

/// The maps of the master map, at their places.
autofs::Maps maps_of(const Found& found, const std::string& master, std::vector<std::string>& faults) {
  autofs::Maps maps;
  const auto entries = found.entries.find(master);
  if (entries == found.entries.end()) return maps;
  for (const autofs::MapEntry& entry : entries->second) {
    const Result<autofs::MasterEntry> parsed =
        autofs::parse_master_entry({.number = 0, .key = entry.key, .is_include = false, .value = entry.value});
    if (!parsed) {
      faults.push_back(entry.file + ": " + std::string(parsed.error().story()));
      continue;
    }
    autofs::Map map{.mount_point = parsed->mount_point,
                    .sources = {},
                    .options = parsed->options,
                    .entries = {},
                    .file = entry.file,
                    .line = 0,
                    .through = {}};
    std::set<std::string> keys;
    for (const autofs::MapSource& source : parsed->sources) {
      const bool is_here = source.type.empty() || source.type == "ldap" || source.type == "ldaps";
      if (!is_here) {
        faults.push_back(entry.file + ": a map of the type " + quote(source.type) + " is not in the directory");
        continue;
      }
      const std::string dn = found.find(map_named_by(source.name));
      if (dn.empty()) {
        faults.push_back(entry.file + ": the directory has no map " + quote(source.name));
        continue;
      }
      const auto of_map = found.entries.find(dn);
      if (of_map == found.entries.end()) continue;
      for (const autofs::MapEntry& one : of_map->second) {
        if (keys.insert(one.key).second) map.entries.push_back(one);
      }
    }
    maps.maps.push_back(std::move(map));
  }
  return maps;
}

}  // namespace

Result<DirectoryShares> read_maps(Directory& directory, const MapsSettings& settings) {
  Found found = TRY(read_all(directory, settings.names));
  const std::string master = found.find(settings.master);
  // A directory that hides what a reader may not see answers as if it was empty.
  if (master.empty()) return fail(ENOENT, "there is no map " + quote(settings.master) + " that can be read");
  DirectoryShares result{.shares = {}, .faults = std::move(found.faults)};
  const autofs::Maps maps = maps_of(found, master, result.faults);
  const autofs::Translation translation = autofs::translate(maps, settings.namespace_directory, "/nonexistent");
  for (const autofs::Fault& fault : translation.findings.faults)
    result.faults.push_back(fault.file + ": " + fault.reason);
  for (const autofs::Share& share : translation.shares) {
    for (const std::string& note : share.notes) result.faults.push_back(share.fields.origin_file + ": " + note);
    result.shares.insert_or_assign(share.fields.name, json_of(share.fields));
  }
  return result;
}

}  // namespace berth::sources
