#include "src/config/share_section.h"

#include <algorithm>
#include <utility>

#include "src/config/daemon_section.h"
#include "src/lib/base/mount_options.h"

namespace berth::config {
namespace {

void read_policy(Section& section, manager::SharePolicy& policy, Accounts& accounts) {
  if (section.duration("idle_timeout", policy.idle_timeout)) policy.idle_timeout_is_own = true;
  section.duration("mount_timeout", policy.mount_timeout);
  section.duration("unmount_timeout", policy.unmount_timeout);
  section.duration("stall_timeout", policy.stall_timeout);
  section.duration("request_timeout", policy.request_timeout);
  auto on_stale = static_cast<std::size_t>(policy.on_stale);
  section.word("on_stale", on_stale, {"remount", "error"});
  policy.on_stale = static_cast<manager::OnStale>(on_stale);
  auto reopen = static_cast<std::size_t>(policy.reopen);
  section.word("reopen", reopen, {"read-only", "always", "never"});
  policy.reopen = static_cast<manager::Reopen>(reopen);
  section.duration("attr_timeout", policy.attr_timeout);
  section.duration("lookup_timeout", policy.lookup_timeout);
  section.duration("positive_timeout", policy.positive_timeout);
  section.duration("negative_timeout", policy.negative_timeout);
  auto access = static_cast<std::size_t>(policy.access);
  section.word("access", access, {"auto", "proxy", "native"});
  policy.access = static_cast<manager::Access>(access);
  section.flag("read_only", policy.read_only);
  section.flag("allow_suid", policy.allow_suid);
  section.flag("allow_devices", policy.allow_devices);
  section.users("allow_users", policy.allow_users, accounts);
  section.groups("allow_groups", policy.allow_groups, accounts);
  section.user("owner", policy.owner, accounts);
  section.group("group", policy.group, accounts);
  section.mode("mode", policy.mode);
  section.flag("browse", policy.browse);
  section.flag("hidden", policy.hidden);
  section.texts("requires", policy.required);
}

std::string advice(std::string_view key, const toml::node& value) {
  if (value.is_table()) return "; quote a name that holds '.' or '/': [share.\"a/b\"]";
  const std::vector<std::string_view>& of_daemon = daemon_keys();
  return std::find(of_daemon.begin(), of_daemon.end(), key) == of_daemon.end() ? "" : "; it belongs in [berth]";
}

}  // namespace

const std::vector<std::string_view>& share_keys() {
  static const std::vector<std::string_view> kKeys{
      "type",
      "source",
      "options",
      "mount",
      "unmount",
      "idle_timeout",
      "mount_timeout",
      "unmount_timeout",
      "stall_timeout",
      "request_timeout",
      "on_stale",
      "reopen",
      "attr_timeout",
      "access",
      "read_only",
      "allow_suid",
      "allow_devices",
      "allow_users",
      "allow_groups",
      "owner",
      "group",
      "mode",
      "environment",
      "environment_file",
      "program",
      "lookup_timeout",
      "positive_timeout",
      "negative_timeout",
      "browse",
      "hidden",
      "requires",
  };
  return kKeys;
}

void read_share_section(Section& section, manager::ShareFields& fields, Accounts& accounts) {
  section.text("type", fields.type);
  section.sources("source", fields.sources, fields.policy.weights);
  section.text("options", fields.options);
  section.command("mount", fields.mount_command);
  section.command("unmount", fields.unmount_command);
  section.variables("environment", fields.environment);
  section.text("environment_file", fields.environment_file);
  section.command("program", fields.program);
  read_policy(section, fields.policy, accounts);
  section.reject_unknown(advice);
}

namespace {

/// Whether a source lies in a share that is mounted before this one, whose mount is used by itself then.
bool is_in_required(const manager::ShareFields& fields, const std::string& source,
                    std::string_view namespace_directory) {
  if (fields.type != "bind" && fields.type != "command") return false;
  const std::vector<std::string>& required = fields.policy.required;
  return source == normal_path(source) && std::any_of(required.begin(), required.end(), [&](const std::string& name) {
           return is_inside(source, std::string(namespace_directory) + "/" + name);
         });
}

}  // namespace

InsideNamespace find_inside(const manager::ShareFields& fields, std::string_view namespace_directory) {
  for (const std::string& source : fields.sources) {
    if (!is_inside(source, namespace_directory)) continue;
    if (!is_in_required(fields, source, namespace_directory)) return {"source", source};
  }
  if (fields.options.find('/') == std::string::npos) return {};
  // The layers of an overlay, a key file, an external journal: "lowerdir=/a:/b,upperdir=/c".
  const MountOptions options = parse_mount_options(fields.options).value_or(MountOptions());
  for (const auto& [name, value] : options.parameters) {
    if (!value) continue;
    for (std::string& path : paths_in_option(*value)) {
      if (is_inside(path, namespace_directory)) return {"options", std::move(path)};
    }
  }
  return {};
}

}  // namespace berth::config
