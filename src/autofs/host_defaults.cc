#include "src/autofs/host_defaults.h"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::autofs {
namespace {

constexpr std::size_t kMaxFile = std::size_t{1} << 20;

/// The lines of a file with their numbers, without comments and what is blank around them. None where it cannot be
/// read.
std::vector<std::pair<std::uint32_t, std::string>> lines_of(const std::string& path, HostDefaults& defaults) {
  std::vector<std::pair<std::uint32_t, std::string>> lines;
  const Result<std::string> text = sys::read_regular_file(path, kMaxFile);
  if (!text) return lines;
  defaults.files.push_back(path);
  std::uint32_t number = 0;
  for (const std::string_view line : split(*text, '\n')) {
    ++number;
    const std::string_view said = trim(line.substr(0, line.find('#')));
    if (!said.empty()) lines.emplace_back(number, said);
  }
  return lines;
}

void read_autofs_conf(const std::string& path, HostDefaults& defaults) {
  bool is_ours = true;
  for (const auto& [number, line] : lines_of(path, defaults)) {
    if (line.front() == '[') {
      is_ours = trim(std::string_view(line).substr(1, line.find(']') - 1)) == "autofs";
      continue;
    }
    const std::size_t equals = line.find('=');
    if (!is_ours || equals == std::string::npos) continue;
    const std::string_view key = trim(std::string_view(line).substr(0, equals));
    std::string_view value = trim(std::string_view(line).substr(equals + 1));
    if (value.size() > 1 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    if (key == "browse_mode" || key == "append_options") {
      if (value != "yes" && value != "no")
        defaults.faults.push_back({path, number, quote(key) + " is neither yes nor no"});
      if (key == "browse_mode") defaults.browse = value != "no";
      if (key == "append_options") defaults.append_options = value != "no";
    }
    const std::array<std::pair<std::string_view, std::optional<std::chrono::seconds>*>, 2> times{
        {{"timeout", &defaults.timeout}, {"negative_timeout", &defaults.negative_timeout}}};
    for (const auto& [name, target] : times) {
      if (key != name) continue;
      std::uint32_t seconds = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
      if (error != std::errc() || end != value.data() + value.size()) {
        defaults.faults.push_back({path, number, quote(key) + " is no number of seconds"});
      } else {
        *target = std::chrono::seconds(seconds);
      }
    }
  }
}

/// "files sss [NOTFOUND=return] ldap"
void read_nsswitch(const std::string& path, HostDefaults& defaults) {
  constexpr std::string_view kKey = "automount:";
  for (const auto& [number, line] : lines_of(path, defaults)) {
    if (!line.starts_with(kKey)) continue;
    std::string rest = line.substr(kKey.size());
    for (char& c : rest) c = c == '\t' ? ' ' : c;
    bool in_action = false;
    for (const std::string_view word : split(rest, ' ')) {
      if (word.starts_with('[')) in_action = true;
      const bool is_source = !word.empty() && !in_action;
      if (word.ends_with(']')) in_action = false;
      if (!is_source || word == "files") continue;
      std::string reason = "maps of the source " + quote(word) + " are not read";
      if (word == "ldap") reason += "; berth-source-ldap is for them";
      defaults.faults.push_back({path, number, std::move(reason)});
    }
  }
}

}  // namespace

HostDefaults read_host_defaults(const std::string& directory) {
  HostDefaults defaults;
  read_autofs_conf(directory + "/autofs.conf", defaults);
  read_nsswitch(directory + "/nsswitch.conf", defaults);
  return defaults;
}

}  // namespace berth::autofs
