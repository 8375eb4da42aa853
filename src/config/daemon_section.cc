#include "src/config/daemon_section.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "src/config/share_section.h"
#include "src/config/toml_text.h"

namespace berth::config {
namespace {

using std::chrono::milliseconds;

/// What is wrong with a path that must be absolute; "": nothing.
std::string fault_of_directory(const std::string& path) {
  if (path.empty()) return "an absolute path is expected, such as \"/volumes\"";
  const bool plain =
      std::none_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  if (path.front() != '/') return shown(path) + " is not an absolute path";
  if (!plain) return shown(path) + " holds a control character";
  if (path.size() > 4095) return shown(path) + " is longer than 4095 bytes";
  return "";
}

/// A path that must be absolute; what is wrong with it is a mistake and leaves `target` alone.
void read_directory(Section& section, std::string_view key, std::string& target) {
  std::string path;
  if (!section.text(key, path)) return;
  if (const std::string fault = fault_of_directory(path); !fault.empty()) return section.reject(key, fault);
  target = normal_path(path);
}

void require_time(Section& section, std::string_view key, milliseconds& target) {
  milliseconds time = target;
  section.duration(key, time);
  if (time.count() == 0) return section.reject(key, "must be longer than 0");
  target = time;
}

}  // namespace

std::string normal_path(const std::string& path) {
  std::error_code error;
  std::filesystem::path absolute = path;
  if (absolute.is_relative()) {
    absolute = std::filesystem::absolute(path, error);
    if (error) return path;
  }
  std::string normal = absolute.lexically_normal().native();
  while (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal;
}

bool is_inside(std::string_view path, std::string_view directory) {
  if (directory.empty() || !path.starts_with('/')) return false;
  const std::string normal = normal_path(std::string(path));
  return normal.starts_with(directory) && (normal.size() == directory.size() || normal[directory.size()] == '/');
}

const std::vector<std::string_view>& daemon_keys() {
  static const std::vector<std::string_view> kKeys{
      "namespace",
      "state_dir",
      "takeover_timeout",
      "crash_limit",
      "crash_window",
      "stop_timeout",
      "max_concurrent_mounts",
      "max_mounts_per_server",
      "max_instances",
      "max_instances_per_template",
      "max_instances_per_user",
      "max_nodes",
      "idle_timeout",
      "mount_timeout",
      "unmount_timeout",
      "stall_timeout",
      "attr_timeout",
      "lookup_timeout",
      "positive_timeout",
      "negative_timeout",
      "inode_bits",
  };
  return kKeys;
}

void read_daemon_section(Section& section, Settings& settings, manager::SharePolicy& defaults) {
  read_directory(section, "namespace", settings.namespace_directory);
  if (settings.namespace_directory == "/") section.reject("namespace", "\"/\" cannot be covered");
  read_directory(section, "state_dir", settings.state_dir);
  require_time(section, "takeover_timeout", settings.takeover_timeout);
  section.count("crash_limit", settings.crash_limit, 0, 1000000);
  require_time(section, "crash_window", settings.crash_window);
  section.duration("stop_timeout", settings.stop_timeout);
  section.count("max_concurrent_mounts", settings.max_concurrent_mounts, 1, 1024);
  section.count("max_mounts_per_server", settings.max_mounts_per_server, 1, 1024);
  section.count("max_instances", settings.max_instances, 1, 65536);
  section.count("max_instances_per_template", settings.max_instances_per_template, 1, 65536);
  section.count("max_instances_per_user", settings.max_instances_per_user, 1, 65536);
  section.count("max_nodes", settings.max_nodes, 100, 60'000'000);
  std::size_t bits = settings.inode_bits;
  section.count("inode_bits", bits, 32, 64);
  if (bits == 32 || bits == 64) {
    settings.inode_bits = bits;
  } else {
    section.reject("inode_bits", "32 or 64 is expected");
  }
  section.duration("idle_timeout", defaults.idle_timeout);
  require_time(section, "mount_timeout", defaults.mount_timeout);
  require_time(section, "unmount_timeout", defaults.unmount_timeout);
  require_time(section, "stall_timeout", defaults.stall_timeout);
  section.duration("attr_timeout", defaults.attr_timeout);
  require_time(section, "lookup_timeout", defaults.lookup_timeout);
  section.duration("positive_timeout", defaults.positive_timeout);
  section.duration("negative_timeout", defaults.negative_timeout);
  section.reject_unknown([](std::string_view key, const toml::node&) -> std::string {
    const std::vector<std::string_view>& of_shares = share_keys();
    const bool is_of_share = std::find(of_shares.begin(), of_shares.end(), key) != of_shares.end();
    if (key == "share" || key == "control") return "; it is a section of its own, whose name is in [...] on a line";
    return is_of_share ? "; it belongs in [share.NAME]" : "";
  });
}

std::string text_of(const Settings& settings) {
  // All of them: with one more this does not compile.
  const auto& [namespace_directory, state_dir, takeover_timeout, crash_limit, crash_window, stop_timeout,
               max_concurrent_mounts, max_mounts_per_server, max_instances, max_instances_per_template,
               max_instances_per_user, max_nodes, inode_bits, control] = settings;
  const auto& [group, readable_by_everyone] = control;
  std::string text;
  const auto add = [&text](const char* key, const std::string& value) {
    text.append(key).append(" = " + value + "\n");
  };
  const auto add_directory = [&add](const char* key, const std::string& path) {
    const Result<std::string> value = toml_text(path);
    if (value && fault_of_directory(path).empty()) add(key, *value);
  };
  const auto add_time = [&add](const char* key, milliseconds time) {
    add(key, '"' + std::to_string(time.count()) + "ms\"");
  };
  const auto add_count = [&add](const char* key, std::size_t count) { add(key, std::to_string(count)); };
  text += "[berth]\n";
  add_directory("namespace", namespace_directory);
  add_directory("state_dir", state_dir);
  add_time("takeover_timeout", takeover_timeout);
  add_count("crash_limit", crash_limit);
  add_time("crash_window", crash_window);
  add_time("stop_timeout", stop_timeout);
  add_count("max_concurrent_mounts", max_concurrent_mounts);
  add_count("max_mounts_per_server", max_mounts_per_server);
  add_count("max_instances", max_instances);
  add_count("max_instances_per_template", max_instances_per_template);
  add_count("max_instances_per_user", max_instances_per_user);
  add_count("max_nodes", max_nodes);
  add_count("inode_bits", inode_bits);
  text += "[control]\n";
  if (group) add_count("group", *group);
  add("readers", readable_by_everyone ? "\"everyone\"" : "\"group\"");
  return text;
}

void read_control_section(Section& section, ControlSettings& control, Accounts& accounts) {
  gid_t group = static_cast<gid_t>(-1);
  section.group("group", group, accounts);
  if (group != static_cast<gid_t>(-1)) control.group = group;
  std::size_t readers = control.readable_by_everyone ? 0 : 1;
  section.word("readers", readers, {"everyone", "group"});
  control.readable_by_everyone = readers == 0;
  section.reject_unknown();
}

}  // namespace berth::config
