// autofs's maps: whatever is in one, each of its lines is read as an entry of a map and of a master map, or refused
// with words that a terminal can show. What was read holds the promises of the headers.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "src/autofs/entry.h"
#include "src/autofs/lines.h"
#include "src/autofs/master.h"
#include "src/autofs/nesting.h"
#include "src/lib/base/text.h"

namespace {

using namespace berth::autofs;

/// Ends the run, and so makes libFuzzer report the input.
void require(bool truth) {
  if (!truth) std::abort();
}

void require_error(const berth::Error& error) {
  require(error.code() > 0 && !error.story().empty());
  require(berth::is_harmless(to_string({"map", 1, std::string(error.story())})));
}

/// What stands for the user that asks: a character that no line has.
constexpr char kCaller = '\x01';

void check_settled(const std::vector<Mount>& mounts) {
  const berth::Result<std::vector<Settled>> settled = settle(mounts);
  if (!settled) return require_error(settled.error());
  require(!settled->empty() && settled->size() <= mounts.size());
  for (const Settled& outer : *settled) {
    const std::string below = outer.mount.offset == "/" ? "/" : outer.mount.offset + "/";
    for (const Settled& inner : *settled) require(&inner == &outer || !inner.mount.offset.starts_with(below));
  }
}

void check_entry(const Line& line, const EntryContext& context) {
  const berth::Result<std::vector<Mount>> mounts = parse_entry(line.value, context);
  if (!mounts) return require_error(mounts.error());
  require(!mounts->empty());
  std::set<std::string> offsets;
  for (const Mount& mount : *mounts) {
    require(mount.offset.starts_with('/') && offsets.insert(mount.offset).second);
    require(mount.offset.find("//") == std::string::npos && (mount.offset + "/").find("/../") == std::string::npos);
    require(!mount.type.empty() && !mount.locations.empty());
    for (const Location& location : mount.locations) require(!location.host.empty() || !location.path.empty());
    for (const std::string& option : mount.options) {
      require(!option.empty() && option.find(',') == std::string::npos && !option.starts_with("fstype="));
      require(option.find(kCaller) >= option.find('='));
    }
    require(mount.type.find(kCaller) == std::string::npos);
  }
  check_settled(*mounts);
}

void check_master(const Line& line) {
  const berth::Result<MasterEntry> entry = parse_master_entry(line);
  if (!entry) return require_error(entry.error());
  require(entry->mount_point.starts_with('/') && entry->mount_point.size() > 1 && !entry->mount_point.ends_with('/'));
  require(!entry->sources.empty());
  for (const MapSource& source : entry->sources) {
    require(source.name.empty() == (source.type == "hosts" || source.type == "null"));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Lines master = read_lines(text, "map", MapKind::kMaster);
  for (const Fault& fault : master.faults) require(fault.line > 0 && berth::is_harmless(to_string(fault)));
  for (const Line& line : master.lines) {
    if (!line.is_include) check_master(line);
  }
  const Lines lines = read_lines(text, "map");
  for (const Fault& fault : lines.faults) require(fault.line > 0 && berth::is_harmless(to_string(fault)));
  std::uint32_t last = 0;
  for (const Line& line : lines.lines) {
    require(line.number > last && !line.key.empty() && line.key.size() <= kMaxKey && line.value.size() <= kMaxValue);
    last = line.number;
    if (line.is_include) {
      if (const auto source = parse_include(line); !source) require_error(source.error());
      continue;
    }
    require(!line.value.empty());
    check_entry(line, {line.key, {{"HOST", "box"}, {"HOSTILE", "a \"b\\ /c -d"}}, {"ro"}, true, {}});
    const CallerVariable of_caller = [](std::string_view) {
      return berth::Result<std::string>(std::string(1, kCaller));
    };
    check_entry(
        line, {line.key, {}, {"ro"}, true, {{"USER", "${user}"}, {"UID", "${uid}"}}, line.number % 2 == 0, of_caller});
    check_entry(line, {std::nullopt, {{"ARCH", "a&$"}}, {}, false, {{"HOST", "${host}"}}});
  }
  return 0;
}
