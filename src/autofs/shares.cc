#include "src/autofs/shares.h"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <set>
#include <utility>

#include "manager/model/catalog.h"
#include "manager/model/share_spec.h"
#include "manager/model/share_template.h"
#include "src/autofs/entry.h"
#include "src/autofs/nesting.h"
#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"

namespace berth::autofs {
namespace {

/// How deep maps can be in maps.
constexpr int kMaxDepth = 8;
/// How many maps can be in maps, in all.
constexpr std::size_t kMaxSubmaps = 1000;

/// Options that mean something to automount alone, and what becomes of them; "": nothing is lost.
struct OwnOption {
  std::string_view name;
  std::string_view note;
};
constexpr std::array kOwnOptions{
    OwnOption{"browse", ""},
    OwnOption{"nobrowse", ""},
    OwnOption{"nonstrict", ""},
    OwnOption{"strict", "each share is mounted for itself, whether or not the others of its key are"},
    OwnOption{"use-weight-only", "the time of an answer counts as well, once more for each weight"},
    OwnOption{"no-use-weight-only", ""},
    OwnOption{"random-multimount-selection", "servers are not drawn by lot"},
    OwnOption{"symlink", "a directory of this host is bound, not linked to"},
    OwnOption{"nobind", "a directory of this host is bound"},
    OwnOption{"strictexpire", ""},
    OwnOption{"slave", ""},
    OwnOption{"private", ""},
    OwnOption{"shared", "no mount propagates out of a share"},
    OwnOption{"fg", ""},
    OwnOption{"nofg", ""},
    OwnOption{"bg", ""},
    OwnOption{"ignore", ""},
};

const OwnOption* find_own(std::string_view option) noexcept {
  const auto found = std::find_if(kOwnOptions.begin(), kOwnOptions.end(),
                                  [option](const OwnOption& own) { return own.name == option; });
  return found == kOwnOptions.end() ? nullptr : &*found;
}

/// What `uname` and autofs(5) say of this host.
Variables host_variables() {
  struct utsname host {};
  if (::uname(&host) != 0) return {};
  const std::string name = host.nodename;
  const std::string machine = host.machine;
  const bool is_x86 = machine.size() == 4 && machine.starts_with('i') && machine.ends_with("86");
  return {{"ARCH", machine},        {"CPU", is_x86 ? "i386" : machine},
          {"HOST", name},           {"SHOST", name.substr(0, name.find('.'))},
          {"OSNAME", host.sysname}, {"OSREL", host.release},
          {"OSVERS", host.version}};
}

/// Variables of the user that asks, as templates have them.
const Variables& caller_variables() {
  static const Variables kVariables{
      {"USER", "${user}"}, {"UID", "${uid}"}, {"GROUP", "${group}"}, {"GID", "${gid}"}, {"HOME", "${home}"}};
  return kVariables;
}

/// "/home/alice" of "/home" and "alice".
std::string join(const std::string& base, std::string_view name) {
  return name.empty() || name == "/" ? base : base + (name.front() == '/' ? "" : "/") + std::string(name);
}

bool is_below(std::string_view path, std::string_view directory) noexcept {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

/// Where the key of an entry is.
std::string path_of(const Map& map, const MapEntry& entry) {
  std::string path = map.mount_point == "/-" ? "" : map.mount_point;
  for (const std::string_view part : split(entry.key, '/')) {
    if (!part.empty()) path = join(path, part);
  }
  return path;
}

/// One share in the making.
class ShareMaker {
 public:
  ShareMaker(const Map& map, const MapEntry& entry, const Mount& mount, const manager::SharePolicy& defaults)
      : map_(map), mount_(mount) {
    share_.fields.policy = defaults;
    share_.fields.type = mount.type;
    share_.fields.origin_file = entry.file;
    share_.fields.origin_line = entry.line;
    share_.fields.origin_through = entry.through;
  }

  Share make(std::string name);

 private:
  void note(std::string text) { share_.notes.push_back(std::move(text)); }
  void set_sources();
  void set_fuse_program();
  void set_options();
  /// Whether the option is a key of the share's or automount's own.
  bool take_option(std::string_view option);
  void take_permission(std::string_view option, bool& allowed);
  void set_times();
  /// Why the share as it is cannot have `option`; "" when it can.
  [[nodiscard]] std::string option_fault(const std::string& option) const;

  const Map& map_;
  const Mount& mount_;
  Share share_;
};

void ShareMaker::set_sources() {
  std::vector<Location> locations = mount_.locations;
  const bool is_nfs = mount_.type == "nfs" || mount_.type == "nfs4";
  const auto is_local = [](const Location& location) { return location.host.empty(); };
  if (is_nfs && std::any_of(locations.begin(), locations.end(), is_local)) {
    // automount binds a directory of this host, and goes to a server only where that fails.
    if (locations.size() > 1) note("only the directory of this host is carried over, and no server");
    const Location local = *std::find_if(locations.begin(), locations.end(), is_local);
    locations = {local};
    share_.fields.type = "bind";
  }
  const bool has_weights =
      std::any_of(locations.begin(), locations.end(), [](const Location& l) { return l.weight != 0; });
  std::stable_sort(locations.begin(), locations.end(),
                   [](const Location& a, const Location& b) { return a.weight < b.weight; });
  for (const Location& location : locations) {
    share_.fields.sources.push_back(location.host.empty() ? location.path : location.host + ":" + location.path);
    if (has_weights) share_.fields.policy.weights.push_back(std::min(location.weight, manager::kMostWeight));
  }
}

/// "fuse" with "sshfs#host:/path" is "fuse.sshfs" with "host:/path".
void ShareMaker::set_fuse_program() {
  std::vector<std::string>& sources = share_.fields.sources;
  if (share_.fields.type != "fuse" || sources.size() != 1) return;
  const std::size_t mark = sources.front().find('#');
  if (mark == std::string::npos || mark == 0) return;
  share_.fields.type = "fuse." + sources.front().substr(0, mark);
  sources.front().erase(0, mark + 1);
}

void ShareMaker::take_permission(std::string_view option, bool& allowed) {
  allowed = true;
  for (const manager::FieldFault& fault : manager::ShareSpec::faults_in(share_.fields)) {
    if (std::string_view(fault.key).starts_with("allow_")) allowed = false;
  }
  if (!allowed)
    note("the option " + quote(option) + ": programs reach this share through berth, which is nosuid,nodev");
}

bool ShareMaker::take_option(std::string_view option) {
  manager::SharePolicy& policy = share_.fields.policy;
  if (const OwnOption* own = find_own(option)) {
    if (!own->note.empty()) note("the option " + quote(option) + ": " + std::string(own->note));
  } else if (option == "ro" || option == "rw") {
    policy.read_only = option == "ro";
  } else if (option == "suid") {
    take_permission(option, policy.allow_suid);
  } else if (option == "dev") {
    take_permission(option, policy.allow_devices);
  } else if (option == "nosuid") {
    policy.allow_suid = false;
  } else if (option == "nodev") {
    policy.allow_devices = false;
  } else {
    return option.starts_with("timeout=");
  }
  return true;
}

std::string ShareMaker::option_fault(const std::string& option) const {
  manager::ShareFields fields = share_.fields;
  fields.options = option;
  for (const manager::FieldFault& fault : manager::ShareSpec::faults_in(fields)) {
    if (std::string_view(fault.key) == "options") return fault.reason;
  }
  return "";
}

void ShareMaker::set_options() {
  std::string options;
  for (const std::string& option : mount_.options) {
    if (take_option(option)) continue;
    if (const std::string fault = option_fault(option); !fault.empty()) {
      note("the option " + quote(option) + ": " + fault);
    } else {
      options.append(options.empty() ? "" : ",").append(option);
    }
  }
  share_.fields.options = std::move(options);
}

void ShareMaker::set_times() {
  if (map_.options.negative_timeout)
    share_.fields.policy.negative_timeout =
        std::min<std::chrono::seconds>(*map_.options.negative_timeout, std::chrono::hours(24 * 3650));
  if (!map_.options.timeout) return;
  manager::SharePolicy& policy = share_.fields.policy;
  policy.idle_timeout_is_own = true;
  // automount's 0 is for ever, and berth's is at once.
  constexpr std::chrono::hours kForEver(24 * 3650);
  policy.idle_timeout =
      map_.options.timeout->count() == 0 ? kForEver : std::min<std::chrono::seconds>(*map_.options.timeout, kForEver);
}

Share ShareMaker::make(std::string name) {
  share_.fields.name = std::move(name);
  if (share_.fields.type == "smbfs") share_.fields.type = "cifs";
  set_sources();
  set_fuse_program();
  set_options();
  set_times();
  return std::move(share_);
}

/// Turns maps into shares, one entry after the other.
class Translator {
 public:
  Translator(std::string namespace_directory, std::string directory, const manager::SharePolicy& defaults)
      : namespace_(std::move(namespace_directory)),
        directory_(std::move(directory)),
        defaults_(defaults),
        variables_(host_variables()) {}

  void add(const Map& map, int depth = 0);
  /// Call it once, when all are added.
  Translation take();

 private:
  /// A share that waits for the others: one above another one is not made.
  struct Waiting {
    Share share;
    std::string path, old_path;
  };
  void add_program(const Map& map, const std::string& type, std::vector<std::string> program);
  void add_entry(const Map& map, const MapEntry& entry, int depth);
  void add_mount(const Map& map, const MapEntry& entry, const Settled& settled, int depth);
  void add_submap(const Map& map, const MapEntry& entry, const Mount& mount, const std::string& path, int depth);
  void add_share(Share share, const std::string& path, const std::string& old_path);
  void finish_share(Waiting waiting);
  void fault(const std::string& file, std::uint32_t line, std::string reason) {
    result_.findings.faults.push_back({file, line, std::move(reason)});
  }
  /// The name of a share that was at `path`.
  [[nodiscard]] std::string name_of(const std::string& path) const;

  std::string namespace_;
  std::string directory_;
  manager::SharePolicy defaults_;
  Variables variables_;
  manager::Catalog catalog_;
  std::vector<Waiting> waiting_;
  std::set<std::string> names_;  // of shares and of entries that cannot be used
  std::set<std::string> old_paths_;
  std::size_t submaps_ = 0;
  Translation result_;
};

std::string Translator::name_of(const std::string& path) const {
  const bool is_inside = is_below(path, namespace_) && path.size() > namespace_.size();
  return path.substr(is_inside ? namespace_.size() + 1 : 1);
}

void Translator::add(const Map& map, int depth) {
  for (const MapSource& source : map.sources) {
    if (source.type == "hosts") {
      add_program(map, std::string(manager::kHostsType),
                  {"showmount", "--no-headers", "--exports", std::string(manager::kKeyArgument)});
    } else if (source.type == "program") {
      add_program(map, std::string(manager::kMapType), {source.name, std::string(manager::kKeyArgument)});
    }
  }
  for (const std::string& option : map.options.own) {
    const std::size_t dashes = std::min(option.find_first_not_of('-'), option.size());
    const OwnOption* own = find_own(std::string_view(option).substr(dashes));
    if (own != nullptr && !own->note.empty())
      fault(map.file, map.line, "the option " + quote(option) + ": " + std::string(own->note));
    if (option.starts_with("--mode"))
      fault(map.file, map.line, "the option " + quote(option) + ": directories above shares have the mode 0755");
  }
  for (const MapEntry& entry : map.entries) add_entry(map, entry, depth);
}

/// A template whose program is the map.
void Translator::add_program(const Map& map, const std::string& type, std::vector<std::string> program) {
  if (map.mount_point == "/-") {
    return fault(
        map.file, map.line,
        "the program " + quote(program.front()) + " is not carried over: its keys are paths, which no program lists");
  }
  Share share = ShareMaker(map, {"*", "", map.file, map.line, map.through},
                           {.type = type, .options = map.options.mount_options}, defaults_)
                    .make((map.mount_point == namespace_ ? "" : name_of(map.mount_point) + "/") + "*");
  if (type == manager::kMapType) share.fields.origin_through.push_back(program.front());
  if (type == manager::kMapType && !map.options.append_options && !map.options.mount_options.empty()) {
    share.notes.emplace_back(
        "\"append_options = no\" of autofs.conf: options that a program prints come behind those of the "
        "master map");
  }
  share.fields.program = std::move(program);
  for (const auto& [name, value] : map.options.variables) share.fields.environment.push_back(name + "=" + value);
  add_share(std::move(share), map.mount_point, map.mount_point);
}

void Translator::add_entry(const Map& map, const MapEntry& entry, int depth) {
  EntryContext context{entry.key, variables_, map.options.mount_options, map.options.slashify_colons,
                       caller_variables()};
  context.append_options = map.options.append_options;
  if (entry.key == "*") context.key.reset();
  for (const auto& [name, value] : map.options.variables) context.variables.insert_or_assign(name, value);
  Result<std::vector<Mount>> read = parse_entry(entry.value, context);
  const Result<std::vector<Settled>> mounts = read ? settle(*std::move(read)) : fail(std::move(read).error());
  if (!mounts) {
    if (const std::string path = path_of(map, entry); !path.empty()) names_.insert(name_of(path));
    return fault(entry.file, entry.line, std::string(mounts.error().story()));
  }
  for (const Settled& settled : *mounts) add_mount(map, entry, settled, depth);
}

void Translator::add_mount(const Map& map, const MapEntry& entry, const Settled& settled, int depth) {
  const Mount& mount = settled.mount;
  const bool is_direct = map.mount_point == "/-";
  const std::string key_path = path_of(map, entry);
  const std::string path = join(key_path, mount.offset);
  if (path.empty()) return fault(entry.file, entry.line, "nothing can be mounted at \"/\"");
  if (entry.key == "*" && mount.offset != "/") {
    return fault(entry.file, entry.line,
                 "a wildcard with a mount at " + quote(mount.offset) + " below its keys is not carried over");
  }
  if (mount.type == "autofs") return add_submap(map, entry, mount, path, depth);
  Share share = ShareMaker(map, entry, mount, defaults_).make(name_of(path));
  // Its key alone is a name that automount hides.
  share.fields.policy.hidden =
      !is_direct && mount.offset == "/" && entry.key != "*" && !map.options.browse.value_or(true);
  share.notes.insert(share.notes.end(), settled.notes.begin(), settled.notes.end());
  if (entry.value.find('$') != std::string::npos)
    share.notes.emplace_back("variables of the host are put in as they are on this one");
  add_share(std::move(share), path, is_direct ? key_path : map.mount_point);
}

void Translator::add_submap(const Map& map, const MapEntry& entry, const Mount& mount, const std::string& path,
                            int depth) {
  if (entry.key == "*") return fault(entry.file, entry.line, "a map for each key of a wildcard is not carried over");
  if (++submaps_ > kMaxSubmaps)
    return fault(entry.file, entry.line, "more than " + std::to_string(kMaxSubmaps) + " maps are in maps");
  if (depth == kMaxDepth)
    return fault(entry.file, entry.line, "maps are in maps more than " + std::to_string(kMaxDepth) + " deep");
  // "HOST:MAP" is split as a server's name elsewhere; here what is before the colon is the type.
  const Result<MapSource> source = parse_include({entry.line, mount.locations.front().path, true, ""});
  if (!source || mount.locations.size() != 1) return fault(entry.file, entry.line, "\"-fstype=autofs\" names no map");
  Map below{path, {*source}, map.options, {}, entry.file, entry.line, entry.through};
  below.through.push_back(entry.file);
  below.options.mount_options = mount.options;
  load_sources(below, directory_, result_.findings);
  add(below, depth + 1);
}

void Translator::add_share(Share share, const std::string& path, const std::string& old_path) {
  names_.insert(share.fields.name);
  waiting_.push_back({std::move(share), path, old_path});
}

Translation Translator::take() {
  for (Waiting& one : waiting_) finish_share(std::move(one));
  waiting_.clear();
  return std::move(result_);
}

void Translator::finish_share(Waiting waiting) {
  auto& [share, path, old_path] = waiting;
  const std::string file = share.fields.origin_file;
  const std::uint32_t line = share.fields.origin_line;
  const std::string below = share.fields.name + "/";
  if (const auto inner = names_.lower_bound(below); inner != names_.end() && inner->starts_with(below)) {
    return fault(
        file, line,
        quote(share.fields.name) + " lies above " + quote(*inner) + ", and a share has no other one within it");
  }
  Result<manager::ShareSpec> spec = manager::ShareSpec::make(share.fields);
  if (!spec) return fault(file, line, std::string(spec.error().story()));
  if (const Result<> added = catalog_.add(*std::move(spec)); !added) {
    return fault(file, line, std::string(added.error().story()));
  }
  result_.shares.push_back(std::move(share));
  if (!is_below(path, namespace_) && old_paths_.insert(old_path).second) {
    result_.old_paths.push_back({old_path, old_path.substr(1)});
  }
}

}  // namespace

Translation translate(const Maps& maps, const std::string& namespace_directory, const std::string& directory,
                      const manager::SharePolicy& defaults) {
  Translator translator(namespace_directory, directory, defaults);
  for (const Map& map : maps.maps) translator.add(map);
  Translation result = translator.take();
  const auto put_first = [](const auto& first, auto& all) { all.insert(all.begin(), first.begin(), first.end()); };
  put_first(maps.findings.faults, result.findings.faults);
  put_first(maps.findings.files, result.findings.files);
  return result;
}

namespace {

/// What `fields` say of all mounts of an answer.
std::vector<std::string> options_of(const manager::ShareFields& fields) {
  std::vector<std::string> options;
  for (const std::string_view option : split(fields.options, ',')) {
    if (!option.empty()) options.emplace_back(option);
  }
  return options;
}

std::vector<Share> make_answered(const std::vector<Settled>& mounts, const MapEntry& entry,
                                 const manager::ShareFields& fields) {
  const Map map{"/-", {}, {}, {}, fields.origin_file, fields.origin_line, fields.origin_through};
  std::vector<Share> shares;
  for (const auto& [mount, notes] : mounts) {
    Share share =
        ShareMaker(map, entry, mount, fields.policy).make(fields.name + (mount.offset == "/" ? "" : mount.offset));
    share.notes.insert(share.notes.end(), notes.begin(), notes.end());
    share.fields.environment = fields.environment;
    share.fields.environment_file = fields.environment_file;
    shares.push_back(std::move(share));
  }
  return shares;
}

}  // namespace

Result<std::vector<Share>> translate_answer(std::string_view value, const std::string& key,
                                            const manager::ShareFields& fields,
                                            const manager::FindCaller& find_caller) {
  EntryContext context{key, host_variables(), options_of(fields), true, caller_variables()};
  std::optional<manager::TemplateValues> caller;
  if (find_caller) {
    context.of_caller = [&](std::string_view name) {
      if (!caller) caller = find_caller();
      return manager::value_for_answer(*caller, to_lower(name));
    };
  }
  for (const std::string& variable : fields.environment) {
    const std::size_t equals = variable.find('=');
    context.variables.insert_or_assign(variable.substr(0, equals), variable.substr(equals + 1));
  }
  if (!fields.type.empty() && fields.type != manager::kMapType)
    context.options.insert(context.options.begin(), "fstype=" + fields.type);
  std::vector<Mount> mounts = TRY(parse_entry(value, context));
  const auto is_map = [](const Mount& mount) { return mount.type == "autofs"; };
  if (std::any_of(mounts.begin(), mounts.end(), is_map)) {
    return fail(EINVAL, "the entry is a map, and a look-up makes shares");
  }
  manager::ShareFields of_all = fields;
  if (caller) {
    of_all.policy.allow_users = {*caller->only_user};
    of_all.policy.allow_groups.clear();
  }
  return make_answered(TRY(settle(std::move(mounts))),
                       {key, std::string(value), fields.origin_file, fields.origin_line, fields.origin_through},
                       of_all);
}

Result<std::vector<Share>> translate_exports(std::string_view text, const std::string& key,
                                             const manager::ShareFields& fields) {
  std::vector<Export> exports;
  for (const std::string_view line : split(text, '\n')) {
    // The clients have no blank in them, and a path may have.
    const std::size_t clients = line.find_last_of(" \t");
    if (!line.starts_with('/') || clients == std::string_view::npos) continue;
    const std::string_view path = line.substr(0, line.find_last_not_of(" \t", clients) + 1);
    exports.push_back({.mount = {.offset = std::string(path),
                                 .options = options_of(fields),
                                 .locations = {{key, 0, std::string(path)}}},
                       .clients = std::string(line.substr(clients + 1))});
  }
  if (exports.empty()) return fail(ENOENT);
  return make_answered(settle(std::move(exports)),
                       {key, "", fields.origin_file, fields.origin_line, fields.origin_through}, fields);
}

std::string only_mount_point(const Maps& maps) {
  std::set<std::string> mount_points;
  for (const Map& map : maps.maps) mount_points.insert(map.mount_point);
  return mount_points.size() == 1 && *mount_points.begin() != "/-" ? *mount_points.begin() : "";
}

}  // namespace berth::autofs
