#include "manager/model/share_spec.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "manager/model/helper_type.h"
#include "manager/model/of_this_host.h"
#include "manager/model/share_template.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

constexpr std::size_t kMaxComponent = 255;        // NAME_MAX
constexpr std::size_t kMaxSource = 4095;          // PATH_MAX, less the NUL
constexpr std::size_t kMaxArgument = 128U << 10;  // MAX_ARG_STRLEN, execve(2)
constexpr std::size_t kMaxSources = 64;
constexpr std::size_t kMaxType = 64;

bool is_control(char c) noexcept {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

bool holds_control(std::string_view text) noexcept { return std::any_of(text.begin(), text.end(), is_control); }

/// Quoted for a message, cut where it is so long that it would not be read. Before that it is masked: half a URL is
/// none.
std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 80;
  const std::string masked = mask_secrets(text);
  if (masked.size() <= kShown) return quote(masked);
  return quote(std::string_view(masked).substr(0, kShown)) + "...";
}

/// Whether `name` can be that of a variable of an environment.
bool is_variable_name(std::string_view name) noexcept {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), is_allowed) &&
         (name.front() < '0' || name.front() > '9');
}

ShareKind kind_of(std::string_view type) noexcept {
  if (type == "dir") return ShareKind::kDir;
  if (type == "bind") return ShareKind::kBind;
  if (type == "command") return ShareKind::kCommand;
  return ShareKind::kFilesystem;
}

/// Types that mount nothing without a source; what is not listed may do without one, as tmpfs and overlay do.
bool type_needs_source(std::string_view type) noexcept {
  constexpr std::array kTypes{"9p",   "btrfs", "cephfs",      "cifs",       "erofs",     "exfat",   "ext2",     "ext3",
                              "ext4", "f2fs",  "fuse.rclone", "fuse.sshfs", "glusterfs", "iso9660", "jfs",      "nfs",
                              "nfs4", "ntfs3", "smb3",        "squashfs",   "udf",       "vfat",    "virtiofs", "xfs"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

/// File systems whose data is this host's own.
bool is_local_type(std::string_view type) noexcept {
  constexpr std::array kTypes{"bcachefs", "btrfs",  "cramfs", "erofs",   "exfat",   "ext2",  "ext3",
                              "ext4",     "f2fs",   "hfs",    "hfsplus", "iso9660", "jfs",   "minix",
                              "msdos",    "nilfs2", "ntfs3",  "overlay", "ramfs",   "romfs", "squashfs",
                              "tmpfs",    "udf",    "ufs",    "vfat",    "xfs",     "zonefs"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

/// ShareSpec::why_with_berth()
std::string_view why_with_berth(ShareKind kind, const std::string& type, const MountOptions& options,
                                const SharePolicy& policy) {
  if (policy.access == Access::kNative) return "";
  if (policy.access == Access::kProxy) return "access is \"proxy\"";
  if (kind == ShareKind::kDir) return "type is \"dir\"";
  if (kind == ShareKind::kCommand) return "type is \"command\"";
  const bool is_local = kind == ShareKind::kBind || (kind == ShareKind::kFilesystem && is_local_type(type));
  if (!is_local) return "its file system is not one of this host";
  if (policy.idle_timeout.count() == 0) return "idle_timeout is \"0\"";
  if (!policy.allow_users.empty() || !policy.allow_groups.empty()) return "allow_users or allow_groups is set";
  // What it shows may be a part of that share, and of another host.
  if (kind == ShareKind::kBind && !policy.required.empty()) return "it requires another share";
  // With mounts below the source the kernel cannot report whether a process is in it.
  return options.recursive_bind ? "it is bound with \"rbind\"" : "";
}

class Faults {
 public:
  explicit Faults(const ShareFields& fields)
      : fields_(fields),
        is_template_(fields.name.ends_with('*')),
        parsed_(parse_mount_options(fields.options)),
        options_(parsed_.value_or(MountOptions())) {}

  std::vector<FieldFault> all() {
    check_name();
    check_type();
    check_sources();
    check_options();
    check_commands();
    check_program();
    check_environment();
    check_policy();
    return std::move(faults_);
  }

 private:
  void add(const char* key, std::string reason) { faults_.push_back({key, std::move(reason)}); }

  void check_name() {
    std::string_view name = fields_.name;
    if (name == "*") return;
    if (name.ends_with("/*")) name.remove_suffix(2);
    if (Result<> checked = check_share_name(name); !checked) add("name", std::string(checked.error().story()));
  }

  /// What a template does not say its program may.
  [[nodiscard]] bool is_answered() const { return is_template_ && !fields_.program.empty(); }

  void check_type() {
    const std::string& type = fields_.type;
    if (type.empty() && is_answered()) return;
    const bool plain = std::all_of(type.begin(), type.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    });
    if (type.empty()) {
      add("type", "is missing; \"bind\", \"dir\", \"command\" or a type of mount(8) such as \"nfs\"");
    } else if (!plain || type.front() == '-' || type.size() > kMaxType) {
      add("type", shown(type) + " is not a type: lower-case letters, digits, '.', '_' and '-', such as \"fuse.sshfs\"");
    }
  }

  void check_sources() {
    const std::vector<std::string>& sources = fields_.sources;
    const ShareKind kind = kind_of(fields_.type);
    const bool is_local = kind == ShareKind::kDir || kind == ShareKind::kBind;
    if (sources.empty() && is_answered()) {
      // The program says it.
    } else if (sources.empty() && is_local) {
      add("source", "is missing; the absolute path of a local directory, such as \"/srv/media\"");
    } else if (sources.empty() && type_needs_source(fields_.type)) {
      add("source", "is missing; what is to be mounted, as mount(8) takes it");
    }
    if (is_local && sources.size() > 1) add("source", "a local directory has no replicas; one path, not several");
    if (sources.size() > kMaxSources) add("source", "more than " + std::to_string(kMaxSources) + " replicas");
    for (const std::string& source : sources) check_source(source, is_local);
    const std::vector<std::uint32_t>& weights = fields_.policy.weights;
    if (!weights.empty() && weights.size() != sources.size()) add("source", "not as many weights as sources");
    if (std::any_of(weights.begin(), weights.end(), [](std::uint32_t weight) { return weight > kMostWeight; })) {
      add("source", "a weight is at most " + std::to_string(kMostWeight));
    }
  }

  void check_source(const std::string& source, bool is_local) {
    if (source.empty()) return add("source", "is empty");
    if (source.front() == '-') return add("source", shown(source) + " starts with '-' and would be read as an option");
    if (holds_control(source)) return add("source", shown(source) + " holds a control character");
    if (source.size() > kMaxSource) return add("source", shown(source) + " is longer than 4095 bytes");
    if (is_template_) check_variables("source", source);
    if (is_local && source.front() != '/' && !(is_template_ && source.starts_with("${home}"))) {
      add("source", shown(source) + " is not absolute; the path of a local directory, such as \"/srv/media\"");
    }
  }

  void check_variables(const char* key, const std::string& text) {
    if (std::string reason = variable_fault(text); !reason.empty()) add(key, std::move(reason));
  }

  void check_options() {
    const std::string& options = fields_.options;
    if (options.empty()) return;
    if (fields_.type == "dir")
      return add("options", "nothing is mounted for a share of type \"dir\", so it has no options");
    if (options.size() >= kMaxArgument) return add("options", "longer than 128 KiB");
    if (holds_control(options)) return add("options", shown(options) + " holds a control character");
    if (!parsed_) return add("options", mask_secrets(parsed_.error().story()));
    if (is_template_) {
      check_variables("options", options);
      if (std::string reason = option_position_fault(options); !reason.empty()) add("options", std::move(reason));
    }
    check_options_for_kind();
  }

  /// What the kind of share makes nothing of.
  void check_options_for_kind() {
    const ShareKind kind = kind_of(fields_.type);
    const bool makes_bind = kind == ShareKind::kBind;
    if (!makes_bind && options_.bind) add("options", "\"bind\" and \"rbind\" are for a share of type \"bind\"");
    if (kind == ShareKind::kFilesystem) {
      if (!options_.subdirectory.empty() && is_helper_type(fields_.type)) {
        add("options", "\"X-mount.subdir\" is not for a type that a program mounts; name the directory in the source");
      }
      return;
    }
    if (!options_.parameters.empty()) {
      const std::string first = shown(options_.parameters.front().first);
      add("options", makes_bind ? first + " is an option of a file system; a bind has none of its own"
                                : first + " is the command's, not the mount's; it belongs into the argv of \"mount\"");
    }
    if (!options_.subdirectory.empty()) {
      add("options", makes_bind ? "\"X-mount.subdir\" is for file systems; name the directory itself as the source"
                                : "\"X-mount.subdir\" is for file systems that the kernel mounts");
    }
    if (options_.wants_loop()) {
      add("options", "\"loop\", \"offset\" and \"sizelimit\" are for images, whose type is that of their file system");
    }
  }

  void check_commands() {
    if (kind_of(fields_.type) != ShareKind::kCommand) {
      constexpr const char* kOnly = "only a share of type \"command\" has one";
      if (!fields_.mount_command.empty()) add("mount", kOnly);
      if (!fields_.unmount_command.empty()) add("unmount", kOnly);
      return;
    }
    if (fields_.mount_command.empty() && is_answered()) return;
    if (fields_.mount_command.empty()) {
      add("mount",
          "is missing; the helper and its arguments, such as [\"rclone\", \"mount\", \"remote:\", \"{mountpoint}\"]");
    } else if (!mentions(fields_.mount_command, "{mountpoint}")) {
      add("mount", "no argument holds {mountpoint}, so the helper cannot know where to mount");
    }
    check_command("mount", fields_.mount_command);
    check_command("unmount", fields_.unmount_command);
  }

  static bool mentions(const std::vector<std::string>& argv, std::string_view placeholder) {
    return std::any_of(argv.begin(), argv.end(),
                       [&](const std::string& argument) { return argument.find(placeholder) != std::string::npos; });
  }

  void check_program() {
    constexpr const char* kKey = "program";
    const std::vector<std::string>& argv = fields_.program;
    if (argv.empty()) return;
    if (!is_template_) return add(kKey, "only a template, such as [share.\"home/*\"], has one");
    check_argv(kKey, argv);
    for (const std::string& argument : argv) check_variables(kKey, argument);
    if (std::string reason = program_fault(argv); !reason.empty()) add(kKey, std::move(reason));
  }

  void check_command(const char* key, const std::vector<std::string>& argv) {
    if (argv.empty()) return;
    check_argv(key, argv);
    if (mentions(argv, "{source}") && fields_.sources.empty() && !is_answered())
      add(key, "uses {source}, but there is no source");
    if (!is_template_) return;
    for (const std::string& argument : argv) check_variables(key, argument);
    if (std::string reason = key_position_fault(argv); !reason.empty()) add(key, std::move(reason));
  }

  void check_argv(const char* key, const std::vector<std::string>& argv) {
    const std::string& program = argv.front();
    if (program.empty() || program.front() == '-') {
      add(key, shown(program) + " is not a program");
    } else if (program.front() != '/' && program.find('/') != std::string::npos) {
      add(key, shown(program) + " is a relative path; a name without '/' or an absolute path");
    }
    for (const std::string& argument : argv) {
      if (argument.find('\0') != std::string::npos) add(key, shown(argument) + " holds a NUL");
      if (argument.size() >= kMaxArgument) add(key, "an argument is longer than 128 KiB");
    }
  }

  void check_environment() {
    const ShareKind kind = kind_of(fields_.type);
    if (!is_answered() && (kind == ShareKind::kDir || kind == ShareKind::kBind)) {
      constexpr const char* kNone = "no program runs for a share of type \"dir\" or \"bind\"";
      if (!fields_.environment.empty()) add("environment", kNone);
      if (!fields_.environment_file.empty()) add("environment_file", kNone);
    }
    for (const std::string& variable : fields_.environment) {
      const std::string_view name = std::string_view(variable).substr(0, variable.find('='));
      if (!is_variable_name(name))
        add("environment", shown(name) + " is not the name of a variable: letters, digits and '_'");
      if (variable.find('\0') != std::string::npos) add("environment", "the value of " + shown(name) + " holds a NUL");
      if (variable.size() >= kMaxArgument)
        add("environment", "the value of " + shown(name) + " is longer than 128 KiB");
    }
    const std::string& file = fields_.environment_file;
    if (!file.empty() && file.front() != '/') add("environment_file", shown(file) + " is not an absolute path");
    if (file.find('\0') != std::string::npos) add("environment_file", "holds a NUL");
  }

  void check_policy() {
    const SharePolicy& policy = fields_.policy;
    using std::chrono::milliseconds;
    const auto at_least = [&](const char* key, milliseconds value, milliseconds least) {
      if (value < least) add(key, least.count() > 0 ? "must be longer than 0" : "must not be negative");
    };
    at_least("idle_timeout", policy.idle_timeout, milliseconds(0));
    at_least("mount_timeout", policy.mount_timeout, milliseconds(1));
    at_least("unmount_timeout", policy.unmount_timeout, milliseconds(1));
    at_least("stall_timeout", policy.stall_timeout, milliseconds(1));
    at_least("attr_timeout", policy.attr_timeout, milliseconds(0));
    at_least("lookup_timeout", policy.lookup_timeout, milliseconds(1));
    at_least("positive_timeout", policy.positive_timeout, milliseconds(0));
    at_least("negative_timeout", policy.negative_timeout, milliseconds(0));
    const auto& users = policy.allow_users;
    if (!is_template_ && std::find(users.begin(), users.end(), kKeyUser) != users.end()) {
      add("allow_users", "\"&\" is the user that the key of a template names, and this is no template");
    }
    if (policy.browse) check_browse();
    check_required();
    if (policy.mode > 07777) add("mode", "more than permission bits; such as \"0755\"");
    if (policy.access == Access::kNative) check_native();
    if (why_with_berth(kind_of(fields_.type), fields_.type, options_, policy).empty()) return;
    const char* const reason =
        "has no effect: programs reach this share through berth, whose namespace is nosuid,nodev; it takes native "
        "access";
    if (policy.allow_suid) add("allow_suid", reason);
    if (policy.allow_devices) add("allow_devices", reason);
  }

  void check_browse() {
    if (!is_template_) return add("browse", "only a template, such as [share.\"home/*\"], lists names");
    if (fields_.program.empty() && browsed_directory(fields_).empty()) {
      add("browse", "nothing can be listed; it takes a program, or a local source that ends in \"/&\"");
    }
    for (const std::string& argument : fields_.program) {
      if (is_of_caller(argument))
        add("browse", "the list is one for all callers, and " + quote(argument) + " is of one");
    }
  }

  void check_required() {
    const std::vector<std::string>& required = fields_.policy.required;
    if (required.size() > kMostRequired)
      return add("requires", "more than " + std::to_string(kMostRequired) + " shares");
    for (auto name = required.begin(); name != required.end(); ++name) {
      if (const Result<> checked = check_share_name(*name); !checked) {
        add("requires", std::string(checked.error().story()));
      } else if (name->find("${") != std::string::npos) {
        add("requires", shown(*name) + ": of the marks only '&' may stand here");
      } else if (std::find(required.begin(), name, *name) != name) {
        add("requires", shown(*name) + " is there twice");
      }
    }
  }

  void check_native() {
    const SharePolicy& policy = fields_.policy;
    if (fields_.type == "dir") {
      add("access",
          "nothing is mounted for a share of type \"dir\", so there is nothing to go straight into; use \"bind\"");
    }
    if (!policy.allow_users.empty() || !policy.allow_groups.empty()) {
      add("access", "\"native\" leads past berth, which alone knows allow_users and allow_groups; use \"proxy\"");
    }
    if (options_.recursive_bind) {
      add("access",
          "\"native\" cannot be with the option \"rbind\": the kernel does not tell when no program is in it");
    }
  }

  const ShareFields& fields_;
  const bool is_template_;
  const Result<MountOptions> parsed_;
  const MountOptions options_;  ///< none where they cannot be parsed
  std::vector<FieldFault> faults_;
};

Result<> check_component(std::string_view name, std::string_view component) {
  if (component.empty()) {
    const char* where = name.front() == '/'  ? "starts with '/'"
                        : name.back() == '/' ? "ends with '/'"
                                             : "holds an empty part (\"//\")";
    return fail(EINVAL, shown(name) + " " + where + "; a name is relative, with one '/' between its parts");
  }
  if (component == "." || component == "..") {
    return fail(EINVAL, shown(name) + " holds the part " + quote(component) + ", which names another directory");
  }
  if (component.size() > kMaxComponent) {
    return fail(ENAMETOOLONG, shown(name) + " has a part of " + std::to_string(component.size()) +
                                  " bytes; a file name has at most " + std::to_string(kMaxComponent));
  }
  return {};
}

}  // namespace

Result<> check_share_name(std::string_view name) {
  if (name.empty()) return fail(EINVAL, "a share needs a name");
  if (name.size() > kMaxShareName) {
    return fail(ENAMETOOLONG, shown(name) + " has " + std::to_string(name.size()) +
                                  " bytes; a share's name has at most " + std::to_string(kMaxShareName));
  }
  if (holds_control(name)) return fail(EINVAL, shown(name) + " holds a control character");
  if (!is_utf8(name)) return fail(EINVAL, shown(name) + " is not UTF-8");
  if (name.find('*') != std::string_view::npos) {
    return fail(EINVAL,
                shown(name) + " holds '*', which can only be the whole last part: a template such as \"home/*\"");
  }
  const std::vector<std::string_view> components = split(name, '/');
  for (const std::string_view component : components) TRY_VOID(check_component(name, component));
  if (components.front() == ".berth") return fail(EINVAL, shown(name) + ": \".berth\" is the control tree");
  return {};
}

namespace {

void add_variables(Secrets& secrets, const std::vector<std::string>& environment) {
  for (const std::string_view variable : environment) {
    const std::size_t equals = variable.find('=');
    if (equals != std::string_view::npos) secrets.add_variable(variable.substr(0, equals), variable.substr(equals + 1));
  }
}

}  // namespace

std::vector<const char*> keys_with_secrets(const ShareFields& fields) {
  std::vector<const char*> keys;
  const auto look = [&keys](const char* key, auto fill) {
    Secrets secrets;
    fill(secrets);
    if (!secrets.empty()) keys.push_back(key);
  };
  look("source", [&](Secrets& secrets) {
    for (const std::string& source : fields.sources) secrets.add_source(source);
  });
  look("options", [&](Secrets& secrets) { secrets.add_options(fields.options); });
  look("mount", [&](Secrets& secrets) { secrets.add_command(fields.mount_command); });
  look("unmount", [&](Secrets& secrets) { secrets.add_command(fields.unmount_command); });
  look("program", [&](Secrets& secrets) { secrets.add_command(fields.program); });
  return keys;
}

Secrets ShareSpec::secrets() const {
  Secrets secrets;
  for (const std::string& source : sources()) secrets.add_source(source);
  secrets.add_options(options());
  secrets.add_command(mount_command());
  secrets.add_command(unmount_command());
  secrets.add_command(program());
  add_variables(secrets, environment());
  return secrets;
}

const char* to_string(Access access) noexcept {
  switch (access) {
    case Access::kAuto:
      return "auto";
    case Access::kProxy:
      return "proxy";
    case Access::kNative:
      return "native";
  }
  return "unknown";
}

bool is_of_this_host(const ShareSpec& spec) noexcept {
  const bool may_be_part = spec.kind() == ShareKind::kBind && !spec.policy().required.empty();
  return spec.kind() == ShareKind::kDir || (spec.kind() == ShareKind::kBind && !may_be_part) ||
         (spec.kind() == ShareKind::kFilesystem && is_local_type(spec.type()));
}

std::string_view ShareSpec::why_with_berth() const {
  return berth::manager::why_with_berth(kind(), type(), mount_options(), policy());
}

std::vector<FieldFault> ShareSpec::faults_in(const ShareFields& fields) { return Faults(fields).all(); }

Result<ShareSpec> ShareSpec::make(ShareFields fields, const ShareSpec* like) {
  const std::vector<FieldFault> faults = faults_in(fields);
  if (faults.empty()) return make_unchecked(std::move(fields), like);
  std::string story = "share " + shown(fields.name) + ": ";
  for (const FieldFault& fault : faults) {
    if (&fault != &faults.front()) story += "; ";
    story += std::string(fault.key) + ": " + fault.reason;
  }
  return fail(EINVAL, std::move(story));
}

ShareSpec ShareSpec::make_unchecked(ShareFields fields, const ShareSpec* like) {
  MountOptions mount_options = parse_mount_options(fields.options).value_or(MountOptions());
  Common common{
      .type = std::move(fields.type),
      .options = std::move(fields.options),
      .mount_options = std::move(mount_options),
      .mount_command = std::move(fields.mount_command),
      .unmount_command = std::move(fields.unmount_command),
      .environment = std::move(fields.environment),
      .environment_file = std::move(fields.environment_file),
      .program = std::move(fields.program),
      .policy = std::move(fields.policy),
      .origin_file = std::move(fields.origin_file),
      .kind = ShareKind::kDir,
  };
  common.kind = kind_of(common.type);
  // For as long as there are shares: without slack.
  fields.name.shrink_to_fit();
  fields.sources.shrink_to_fit();
  Own own{
      .name = std::move(fields.name),
      .sources = std::move(fields.sources),
      .common = nullptr,
      .origin_line = fields.origin_line,
  };
  if (like != nullptr && *like->own_->common == common) {
    own.common = like->own_->common;
  } else {
    own.common = std::make_shared<const Common>(std::move(common));
  }
  return ShareSpec(std::make_shared<const Own>(std::move(own)));
}

std::string ShareSpec::origin() const {
  const std::string& file = own_->common->origin_file;
  return own_->origin_line == 0 ? file : file + ":" + std::to_string(own_->origin_line);
}

bool operator==(const ShareSpec& a, const ShareSpec& b) {
  if (a.own_ == b.own_) return true;
  const ShareSpec::Common& x = *a.own_->common;
  const ShareSpec::Common& y = *b.own_->common;
  return a.name() == b.name() && a.sources() == b.sources() &&
         (&x == &y || (x.type == y.type && x.options == y.options && x.mount_command == y.mount_command &&
                       x.unmount_command == y.unmount_command && x.environment == y.environment &&
                       x.environment_file == y.environment_file && x.program == y.program && x.policy == y.policy));
}

ShareFields ShareSpec::fields() const {
  const Common& common = *own_->common;
  return {.name = own_->name,
          .type = common.type,
          .sources = own_->sources,
          .options = common.options,
          .mount_command = common.mount_command,
          .unmount_command = common.unmount_command,
          .environment = common.environment,
          .environment_file = common.environment_file,
          .program = common.program,
          .policy = common.policy,
          .origin_file = common.origin_file,
          .origin_line = own_->origin_line};
}

namespace {

using Words = std::vector<std::string>;

/// A key of what a mount is made of, in words.
struct MountKey {
  const char* key;
  Words (*words)(const ShareSpec& spec);
};

Words word_of(const std::string& value) { return value.empty() ? Words() : Words{value}; }
Words word_of(bool value) { return {value ? "true" : "false"}; }

constexpr const char* kEnvironment = "environment";
constexpr MountKey kMountKeys[] = {
    {"type", [](const ShareSpec& spec) { return word_of(spec.type()); }},
    {"source", [](const ShareSpec& spec) { return spec.sources(); }},
    {"options", [](const ShareSpec& spec) { return word_of(spec.options()); }},
    {"mount", [](const ShareSpec& spec) { return spec.mount_command(); }},
    {"unmount", [](const ShareSpec& spec) { return spec.unmount_command(); }},
    {kEnvironment, [](const ShareSpec& spec) { return spec.environment(); }},
    {"environment_file", [](const ShareSpec& spec) { return word_of(spec.environment_file()); }},
    {"read_only", [](const ShareSpec& spec) { return word_of(spec.policy().read_only); }},
    {"allow_suid", [](const ShareSpec& spec) { return word_of(spec.policy().allow_suid); }},
    {"allow_devices", [](const ShareSpec& spec) { return word_of(spec.policy().allow_devices); }},
};

}  // namespace

bool mounts_alike(const ShareSpec& a, const ShareSpec& b) {
  const SharePolicy& x = a.policy();
  const SharePolicy& y = b.policy();
  return a.type() == b.type() && a.sources() == b.sources() && a.options() == b.options() &&
         a.mount_command() == b.mount_command() && a.unmount_command() == b.unmount_command() &&
         a.environment() == b.environment() && a.environment_file() == b.environment_file() &&
         x.read_only == y.read_only && x.allow_suid == y.allow_suid && x.allow_devices == y.allow_devices;
}

std::vector<std::string> mount_changes(const ShareSpec& before, const ShareSpec& after) {
  const Secrets old_secrets = before.secrets();
  const Secrets new_secrets = after.secrets();
  std::vector<std::string> changes;
  for (const MountKey& key : kMountKeys) {
    const Words from = key.words(before);
    const Words to = key.words(after);
    if (from == to) continue;
    // Masked word by word: a secret in quotes does not look as it does without.
    const auto told = [&](Words words) -> std::string {
      if (words.empty()) return "none";
      for (std::string& word : words) {
        // Any value of a variable may be a secret.
        if (key.key == kEnvironment) word = word.substr(0, word.find('=') + 1).append(kMasked);
      }
      return quote_command(new_secrets.mask(old_secrets.mask(words)));
    };
    changes.push_back(std::string(key.key) + ": " + told(from) + " -> " + told(to));
  }
  return changes;
}

}  // namespace berth::manager
