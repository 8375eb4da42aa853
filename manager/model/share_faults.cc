#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/model/helper_type.h"
#include "manager/model/of_this_host.h"
#include "manager/model/share_kind.h"
#include "manager/model/share_spec.h"
#include "manager/model/share_template.h"
#include "manager/model/shown.h"
#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

constexpr std::size_t kMaxSource = 4095;          // PATH_MAX, less the NUL
constexpr std::size_t kMaxArgument = 128U << 10;  // MAX_ARG_STRLEN, execve(2)
constexpr std::size_t kMaxSources = 64;
constexpr std::size_t kMaxType = 64;

/// Whether `name` can be that of a variable of an environment.
bool is_variable_name(std::string_view name) noexcept {
  const auto is_allowed = [](char c) { return is_alphanumeric(c) || c == '_'; };
  return !name.empty() && std::all_of(name.begin(), name.end(), is_allowed) && !is_digit(name.front());
}

/// Types that mount nothing without a source; what is not listed may do without one, as tmpfs and overlay do.
bool type_needs_source(std::string_view type) noexcept {
  constexpr std::array kTypes{"9p",   "btrfs", "cephfs",      "cifs",       "erofs",     "exfat",   "ext2",     "ext3",
                              "ext4", "f2fs",  "fuse.rclone", "fuse.sshfs", "glusterfs", "iso9660", "jfs",      "nfs",
                              "nfs4", "ntfs3", "smb3",        "squashfs",   "udf",       "vfat",    "virtiofs", "xfs"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

/// Checks the fields of a share one after another, and goes on after a fault.
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

}  // namespace

std::vector<FieldFault> ShareSpec::faults_in(const ShareFields& fields) { return Faults(fields).all(); }

}  // namespace berth::manager
