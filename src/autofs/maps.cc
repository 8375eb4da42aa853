#include "src/autofs/maps.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "src/autofs/host_defaults.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::autofs {
namespace {

/// A source with its path, and the type that it has: automount takes a file that can be executed for a program.
MapSource resolve(MapSource source, const std::string& directory) {
  if (!source.type.empty() && source.type != "file" && source.type != "program") return source;
  if (source.name.find('/') == std::string::npos) source.name = directory + "/" + source.name;
  if (!source.type.empty()) return source;
  std::error_code error;
  const bool is_program =
      ::access(source.name.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(source.name, error);
  source.type = is_program ? "program" : "file";
  return source;
}

/// Reads files, each once: an include of a file that is read already has nothing to add, for the first entry of a key
/// counts. That ends circles as well.
class FileReader {
 public:
  /// `above`: what led to the first file.
  FileReader(std::string directory, MapKind kind, Findings& findings, std::vector<std::string> above = {})
      : directory_(std::move(directory)), kind_(kind), findings_(findings), way_(std::move(above)) {}

  /// Calls `use(file, line)` for each line of `path` and what it includes. `from`: where it is named.
  template <typename Use>
  Result<> read(const std::string& path, const Use& use);
  /// A source that is named at `file`, `line`; a fault when it is no file.
  template <typename Use>
  void read_source(const MapSource& source, const std::string& file, std::uint32_t line, const Use& use);

  void add_fault(const std::string& file, std::uint32_t line, std::string reason, std::string unread = {}) {
    findings_.faults.push_back({file, line, std::move(reason), std::move(unread)});
  }
  /// While `use` is called: the files and directories that led to the line, the one it stands in last.
  [[nodiscard]] const std::vector<std::string>& way() const noexcept { return way_; }

 private:
  template <typename Use>
  void read_directory(const std::string& path, const std::string& file, std::uint32_t line, const Use& use);

  std::string directory_;
  MapKind kind_;
  Findings& findings_;
  std::set<std::string> seen_;
  std::vector<std::string> way_;
};

template <typename Use>
Result<> FileReader::read(const std::string& path, const Use& use) {
  if (!seen_.insert(path).second) return {};
  if (seen_.size() > kMaxFiles) return fail(E2BIG, "more than " + std::to_string(kMaxFiles) + " files");
  Result<std::string> text = sys::read_regular_file(path, kMaxFileSize);
  if (!text) return fail(text.error().code(), quote(path) + " cannot be read: " + errno_text(text.error().code()));
  Lines lines = read_lines(*text, path, kind_);
  std::move(lines.faults.begin(), lines.faults.end(), std::back_inserter(findings_.faults));
  findings_.files.push_back(path);
  way_.push_back(path);
  for (const Line& line : lines.lines) {
    if (!line.is_include) {
      use(path, line);
    } else if (const Result<MapSource> source = parse_include(line); source) {
      read_source(*source, path, line.number, use);
    } else {
      add_fault(path, line.number, std::string(source.error().story()));
    }
  }
  way_.pop_back();
  return {};
}

template <typename Use>
void FileReader::read_source(const MapSource& source, const std::string& file, std::uint32_t line, const Use& use) {
  if (source.type == "dir") return read_directory(source.name, file, line, use);
  if (std::string reason = unsupported_reason(source); !reason.empty()) return add_fault(file, line, std::move(reason));
  const MapSource resolved = resolve(source, directory_);
  if (resolved.type != "file") return add_fault(file, line, "a program cannot be included", resolved.name);
  const Result<> done = read(resolved.name, use);
  if (!done) add_fault(file, line, std::string(done.error().story()), resolved.name);
}

template <typename Use>
void FileReader::read_directory(const std::string& path, const std::string& file, std::uint32_t line, const Use& use) {
  std::vector<std::string> files;
  std::error_code error;
  const std::filesystem::directory_iterator end;
  for (std::filesystem::directory_iterator entry(path, error); !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().native();
    if (name.front() != '.' && name.ends_with(".autofs")) files.push_back(entry->path().native());
    if (files.size() > kMaxFiles) break;
  }
  if (error) add_fault(file, line, quote(path) + " cannot be read: " + errno_text(error.value()), path);
  std::sort(files.begin(), files.end());
  way_.push_back(path);
  for (const std::string& name : files) {
    if (const Result<> done = read(name, use); !done) add_fault(file, line, std::string(done.error().story()), name);
  }
  way_.pop_back();
}

/// What is wrong with a key for its kind of map; "" when nothing is.
std::string key_fault(const std::string& key, bool is_direct) {
  if (is_direct)
    return key.starts_with('/') ? "" : "the key " + quote(key) + " of a direct map is not an absolute path";
  return key.find('/') == std::string::npos ? "" : "the key " + quote(key) + " of an indirect map holds a slash";
}

/// Puts the entries of the master map into their places.
class MasterReader {
 public:
  explicit MasterReader(std::string directory) : directory_(std::move(directory)) {}

  /// `way`: FileReader::way().
  void add(const std::string& file, const Line& line, const std::vector<std::string>& way);
  Maps take() { return std::move(maps_); }
  Findings& findings() noexcept { return maps_.findings; }

 private:
  std::string directory_;
  std::set<std::string> nulled_;  // by "-null": what comes after it and has this path
  std::set<std::string> mount_points_;
  Maps maps_;
};

void MasterReader::add(const std::string& file, const Line& line, const std::vector<std::string>& way) {
  Result<MasterEntry> entry = parse_master_entry(line);
  const auto fault = [&](std::string reason) {
    maps_.findings.faults.push_back({file, line.number, std::move(reason)});
  };
  if (!entry) return fault(std::string(entry.error().story()));
  if (entry->sources.front().type == "null") {
    nulled_.insert(entry->mount_point);
    return;
  }
  if (nulled_.contains(entry->mount_point)) return;
  const bool is_direct = entry->mount_point == "/-";
  if (!is_direct && !mount_points_.insert(entry->mount_point).second) {
    return fault(quote(entry->mount_point) + " has a map already, and the first one counts");
  }
  Map map{entry->mount_point, std::move(entry->sources), std::move(entry->options), {}, file, line.number, {}};
  map.through.assign(way.begin() + 1, way.end());
  load_sources(map, directory_, maps_.findings);
  if (is_direct) std::erase_if(map.entries, [this](const MapEntry& known) { return nulled_.contains(known.key); });
  maps_.maps.push_back(std::move(map));
}

}  // namespace

void load_sources(Map& map, const std::string& directory, Findings& findings) {
  const bool is_direct = map.mount_point == "/-";
  std::set<std::string> keys;
  FileReader reader(directory, MapKind::kOther, findings, map.through);
  for (MapSource& source : map.sources) {
    source = resolve(std::move(source), directory);
    if (source.type == "hosts" || source.type == "program") continue;
    reader.read_source(source, map.file, map.line, [&](const std::string& file, const Line& line) {
      if (std::string reason = key_fault(line.key, is_direct); !reason.empty()) {
        reader.add_fault(file, line.number, std::move(reason));
      } else if (keys.insert(line.key).second) {
        map.entries.push_back({line.key, line.value, file, line.number, {}});
        map.entries.back().through.assign(reader.way().begin(), reader.way().end() - 1);
      } else {
        reader.add_fault(file, line.number,
                         "the key " + quote(line.key) + " is there already, and the first one counts");
      }
    });
  }
}

Result<Maps> load_master(const std::string& file) {
  const std::string directory = std::filesystem::path(file).parent_path();
  MasterReader master(directory);
  FileReader reader(directory, MapKind::kMaster, master.findings());
  HostDefaults host = read_host_defaults(directory);
  TRY_VOID(reader.read(file, [&](const std::string& path, const Line& line) { master.add(path, line, reader.way()); }));
  Maps maps = master.take();
  for (Map& map : maps.maps) {
    if (!map.options.timeout) map.options.timeout = host.timeout;
    if (!map.options.negative_timeout) map.options.negative_timeout = host.negative_timeout;
    if (!map.options.browse) map.options.browse = host.browse;
    map.options.append_options = host.append_options;
  }
  std::move(host.faults.begin(), host.faults.end(), std::back_inserter(maps.findings.faults));
  std::move(host.files.begin(), host.files.end(), std::back_inserter(maps.findings.files));
  return maps;
}

}  // namespace berth::autofs
