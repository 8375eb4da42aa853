#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/backends/mount_helpers.h"
#include "manager/model/helper_type.h"
#include "src/doctor/examine.h"
#include "src/lib/base/path.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/names.h"
#include "src/lib/sys/ask_on_thread.h"

namespace berth::doctor {
namespace {

using formats::FindingView;
using formats::Severity;
using manager::ShareKind;
using manager::ShareSpec;

/// Types that Linux mounts by itself. A type that is in none of its tables may still be known to the kernel that runs.
constexpr std::array<std::string_view, 38> kKernelTypes{
    "9p",       "adfs",      "affs",     "afs",   "bcachefs", "befs",  "binfmt_misc", "btrfs",   "cramfs", "debugfs",
    "ecryptfs", "efs",       "erofs",    "exfat", "ext2",     "ext3",  "ext4",        "f2fs",    "gfs2",   "hfs",
    "hfsplus",  "hugetlbfs", "iso9660",  "jffs2", "jfs",      "minix", "msdos",       "nilfs2",  "ntfs3",  "overlay",
    "ramfs",    "romfs",     "squashfs", "tmpfs", "udf",      "ufs",   "vfat",        "virtiofs"};
constexpr std::array<std::string_view, 3> kMoreKernelTypes{"xfs", "zonefs", "orangefs"};

/// What is meant by a word that is no type.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kMeant{{{"smb", "cifs"},
                                                                               {"smb1", "cifs"},
                                                                               {"smb2", "cifs"},
                                                                               {"smbfs", "cifs"},
                                                                               {"samba", "cifs"},
                                                                               {"windows", "cifs"},
                                                                               {"iso", "iso9660"},
                                                                               {"fat32", "vfat"},
                                                                               {"ssh", "fuse.sshfs"}}};

/// FUSE programs that let other users in without being asked.
constexpr std::array<std::string_view, 3> kAllowOther{"bindfs", "mergerfs", "ntfs-3g"};
/// FUSE programs that do not, as a command.
constexpr std::array<std::string_view, 7> kAskedFor{"rclone",    "sshfs",      "s3fs",          "gocryptfs",
                                                    "curlftpfs", "squashfuse", "fuse-overlayfs"};

template <typename Range>
bool contains(const Range& range, std::string_view word) {
  return std::find(std::begin(range), std::end(range), word) != std::end(range);
}

std::string subject_of(const ShareSpec& share) { return "[share." + share.name() + "]"; }

FindingView finding_of(const ShareSpec& share, Severity severity, std::string id, std::string what, std::string cost,
                       std::string remedy) {
  return {.severity = severity,
          .id = std::move(id),
          .where = share.origin(),
          .subject = subject_of(share),
          .what = std::move(what),
          .cost = std::move(cost),
          .remedy = std::move(remedy)};
}

/// Whether a line of /proc/filesystems ("nodev\ttmpfs") is of this type.
bool is_registered(std::string_view filesystems, std::string_view type) {
  for (const std::string_view line : split(filesystems, '\n')) {
    if (line.substr(line.find('\t') + 1) == type) return true;
  }
  return false;
}

/// The type that was probably meant; empty when none is near.
std::string meant_by(std::string_view type) {
  for (const auto& [word, meant] : kMeant) {
    if (word == type) return std::string(meant);
  }
  if (!manager::fuse_package(type).empty()) return "fuse." + std::string(type);
  std::vector<std::string_view> candidates{"bind", "dir", "command"};
  candidates.insert(candidates.end(), kKernelTypes.begin(), kKernelTypes.end());
  candidates.insert(candidates.end(), kMoreKernelTypes.begin(), kMoreKernelTypes.end());
  for (const std::string_view helped : manager::helper_types()) candidates.push_back(helped);
  return std::string(nearest(type, candidates));
}

/// What has been found out about a type: most shares are of few.
class Types {
 public:
  explicit Types(const Host& host) : host_(host), filesystems_(host.read("/proc/filesystems").value_or("")) {}

  /// Whether a kernel or a helper mounts `type`, here or elsewhere.
  bool is_known(const std::string& type) const {
    return manager::is_helper_type(type) || contains(kKernelTypes, type) || contains(kMoreKernelTypes, type) ||
           is_registered(filesystems_, type) || host_.has_helper(type) || has_module(type);
  }
  /// Whether this kernel has it, as far as that is known.
  bool is_here(const std::string& type) const {
    return host_.has_helper(type) || is_registered(filesystems_, type) || aliases().empty() || has_module(type);
  }

 private:
  const std::string& aliases() const {
    if (!aliases_) aliases_ = host_.read("/lib/modules/" + host_.kernel + "/modules.alias").value_or("");
    return *aliases_;
  }
  bool has_module(const std::string& type) const {
    return aliases().find("alias fs-" + type + " ") != std::string::npos;
  }

  const Host& host_;
  const std::string filesystems_;
  mutable std::optional<std::string> aliases_;
};

void examine_type(const Host& host, const Types& types, const ShareSpec& share, std::vector<FindingView>& to) {
  const std::string& type = share.type();
  const char* const cost = "the share cannot be mounted";
  if (!types.is_known(type)) {
    const std::string meant = meant_by(type);
    to.push_back(finding_of(share, Severity::kError, "unknown-type",
                            "neither this kernel nor a mount helper knows the type " + quote(type), cost,
                            meant.empty() ? "see mount(8) for types" : "did you mean " + quote(meant) + "?"));
    return;
  }
  if (const Result<> may = host.without_root ? host.may_mount(type) : Result<>(); !may) {
    const std::string story(may.error().story());
    const std::size_t end = std::min(story.find("; "), story.size());
    to.push_back(finding_of(share, Severity::kError, "needs-root", story.substr(0, end), cost,
                            story.substr(std::min(end + 2, story.size()))));
    return;
  }
  const std::string source = share.sources().empty() ? "" : share.sources().front();
  if (const Result<> helper = host.helper(type, source); !helper) {
    to.push_back(finding_of(share, Severity::kError, helper.error().code() == EINVAL ? "bare-fuse" : "missing-helper",
                            std::string(helper.error().story()), cost, ""));
  } else if (!types.is_here(type)) {
    to.push_back(finding_of(share, Severity::kError, "no-module", "this kernel has no file system " + quote(type), cost,
                            "install the kernel's extra modules, or another kernel"));
  }
}

/// Sources that the helper of their type does not understand, and templates that show the same under each name.
void examine_source(const ShareSpec& share, std::vector<FindingView>& to) {
  const std::string& type = share.type();
  const bool is_nfs = type == "nfs" || type == "nfs4";
  const bool is_smb = type == "cifs" || type == "smb3";
  bool has_variable = false;
  for (const std::string& source : share.sources()) {
    has_variable = has_variable || source.find_first_of("&$") != std::string::npos;
    const bool is_right = is_nfs   ? source.find(":/") != std::string::npos
                          : is_smb ? source.starts_with("//") || source.starts_with("\\\\")
                                   : true;
    if (is_right) continue;
    to.push_back(
        finding_of(share, Severity::kError, "wrong-source",
                   "the source " + quote(share.secrets().mask(source)) + " is none of the type " + quote(type),
                   "the share cannot be mounted",
                   is_nfs ? "write HOST:/PATH, such as nfs1:/media" : "write //HOST/SHARE, such as //filer/media"));
  }
  if (!share.is_template() || share.sources().empty() || has_variable) return;
  to.push_back(finding_of(share, Severity::kWarning, "same-source", "its source has no '&', which stands for the name",
                          "each name shows the same", "write & where the name belongs in the source"));
}

void examine_command(const Host& host, const ShareSpec& share, std::vector<FindingView>& to) {
  for (const std::vector<std::string>& command : {share.mount_command(), share.unmount_command(), share.program()}) {
    if (command.empty()) continue;
    if (const Result<> there = host.program(command.front()); !there) {
      to.push_back(finding_of(share, Severity::kError, "missing-program", std::string(there.error().story()),
                              "the share cannot be mounted", ""));
    }
  }
}

/// A FUSE file system lets in only the user that mounts it, root, unless it is told otherwise. Without root the user
/// that mounts it is the one that uses it.
void examine_allow_other(const Host& host, const ShareSpec& share, std::vector<FindingView>& to) {
  if (host.without_root) return;
  std::string program;
  bool asked = false;
  if (share.kind() == ShareKind::kCommand && !share.mount_command().empty()) {
    program = share.mount_command().front().substr(share.mount_command().front().rfind('/') + 1);
    if (!contains(kAskedFor, program)) return;
    for (const std::string& argument : share.mount_command()) {
      asked = asked || argument.find("allow_other") != std::string::npos ||
              argument.find("allow-other") != std::string::npos;
    }
  } else {
    const std::string_view family = manager::fuse_family(share.type());
    // mount.sshfs is sshfs.
    const bool is_program = contains(kAskedFor, share.type()) && host.has_helper(share.type());
    if (share.kind() != ShareKind::kFilesystem || (family.empty() && !is_program) || family == "fuseblk") return;
    program = share.type().substr(std::min(share.type().find('.') + 1, share.type().size()));
    if (contains(kAllowOther, program)) return;
    asked = share.options().find("allow_other") != std::string::npos ||
            share.options().find("allow-other") != std::string::npos;
  }
  if (asked) return;
  to.push_back(finding_of(share, Severity::kWarning, "no-allow-other", "it is a FUSE file system without allow_other",
                          "only root can use it", "add allow_other to its options, where others are to use it"));
}

/// Directories that the system is in: what is there would be covered.
constexpr std::array<std::string_view, 16> kSystem{"/",      "/bin",   "/boot", "/dev",  "/etc", "/lib",
                                                   "/lib32", "/lib64", "/proc", "/root", "/run", "/sbin",
                                                   "/sys",   "/tmp",   "/usr",  "/var"};
/// All that is below these is the system's, too.
constexpr std::array<std::string_view, 8> kWholeSystem{"/bin/", "/boot/", "/dev/",  "/etc/",
                                                       "/lib/", "/proc/", "/sbin/", "/sys/"};

bool is_of_system(std::string_view directory) {
  if (contains(kSystem, directory)) return true;
  return std::any_of(kWholeSystem.begin(), kWholeSystem.end(),
                     [&](std::string_view above) { return directory.starts_with(above); });
}

/// The mount that `path` is in; null: it is not known.
const sys::MountEntry* mount_of(const std::vector<sys::MountEntry>& table, std::string_view path) {
  const sys::MountEntry* best = nullptr;
  for (const sys::MountEntry& mount : table) {
    if (!is_below(path, mount.target)) continue;
    if (best == nullptr || mount.target.size() >= best->target.size()) best = &mount;
  }
  return best;
}

void examine_namespace(const Host& host, const std::string& directory, std::vector<FindingView>& to) {
  if (directory.empty()) return;
  const std::string subject = "the namespace " + directory;
  if (is_of_system(directory)) {
    to.push_back({.severity = Severity::kError,
                  .id = "namespace-of-system",
                  .subject = subject,
                  .what = "the system itself is there",
                  .cost = "all that is in it would be covered",
                  .remedy = "use an empty directory of its own, such as /volumes"});
  }
  const std::vector<sys::MountEntry> table = mounts_of(host);
  const sys::MountEntry* const mount = mount_of(table, directory);
  if (mount != nullptr && mount->type == formats::kMountType) return;  // it serves; what is below is covered
  if (mount != nullptr && !mount->is_shared) {
    to.push_back({.id = "private-propagation",
                  .subject = subject,
                  .what = "its mount is private",
                  .cost = "containers and services with a mount namespace of their own, where they were started before "
                          "berth, do not see it, nor native shares that are mounted later",
                  .remedy = "mount --make-shared " + quote_command({mount->target})});
  }
  // Looking into an automount point would mount what it is for.
  const bool may_look = (mount == nullptr || mount->type != "autofs") && !is_of_system(directory);
  struct Looked {
    bool is_empty;
    Result<> found;
  };
  const Result<Looked> looked = sys::ask_on_thread<Looked>(
      "berth-doctor",
      [host, directory, may_look] {
        return Looked{!may_look || host.is_empty(directory), host.find(directory).map([](mode_t) {})};
      },
      std::chrono::steady_clock::now() + host.patience);
  if (!looked) {
    to.push_back({.severity = Severity::kError,
                  .id = "no-answer",
                  .subject = subject,
                  .what = "there is no answer for it",
                  .cost = "berth serve waits, or fails",
                  .remedy = "look at the disk or the server that it is on, or use another directory"});
    return;
  }
  if (!looked->is_empty) {
    to.push_back({.severity = Severity::kError,
                  .id = "full-namespace",
                  .subject = subject,
                  .what = "the directory is not empty",
                  .cost = "berth serve fails, for a namespace covers what is there",
                  .remedy = "move away what is in it, or use an empty directory, such as /volumes"});
  }
  if (!looked->found && looked->found.error().code() == ENOENT) {
    to.push_back({.id = "no-namespace",
                  .subject = subject,
                  .what = "there is no such directory",
                  .cost = "berth serve fails (the service makes /volumes itself)",
                  .remedy = "make it with `mkdir -p " + quote_command({directory}) + "`"});
  }
}

}  // namespace

std::vector<FindingView> examine_configuration(const Host& host, const config::Configuration& configuration) {
  std::vector<FindingView> findings;
  examine_namespace(host, configuration.settings.namespace_directory, findings);
  const Types types(host);
  const auto examine = [&](const ShareSpec& share) {
    examine_command(host, share, findings);
    if (!share.program().empty()) return;  // which says the rest
    if (share.kind() == ShareKind::kFilesystem) examine_type(host, types, share, findings);
    examine_source(share, findings);
    examine_allow_other(host, share, findings);
  };
  for (const auto& [name, share] : configuration.catalog.shares()) examine(share);
  for (const auto& [name, share] : configuration.catalog.templates()) examine(share);
  return findings;
}

}  // namespace berth::doctor
