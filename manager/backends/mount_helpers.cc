#include "manager/backends/mount_helpers.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "manager/model/helper_type.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::manager {
namespace {

/// What Debian calls the package with a helper or a program.
struct Package {
  std::string_view name;  ///< of the file system type, of the program, or of the program of a FUSE type
  std::string_view package;
};
constexpr std::string_view kFirstFuseProgram = "sshfs";
constexpr std::array kPackages = {
    // Types that the kernel knows but that require their helper.
    Package{"nfs", "nfs-common"},
    Package{"nfs4", "nfs-common"},
    Package{"cifs", "cifs-utils"},
    Package{"smb3", "cifs-utils"},
    Package{"ceph", "ceph-common"},
    Package{"glusterfs", "glusterfs-client"},
    Package{"davfs", "davfs2"},
    Package{"ecryptfs", "ecryptfs-utils"},
    Package{"ocfs2", "ocfs2-tools"},
    Package{"zfs", "zfsutils-linux"},
    Package{"ntfs-3g", "ntfs-3g"},
    Package{"ntfs", "ntfs-3g"},
    Package{"fuse", "fuse3"},
    Package{"fuse3", "fuse3"},
    // Programs of templates and of catalog sources.
    Package{"showmount", "nfs-common"},
    Package{"berth-source-etcd", "berth-source-etcd"},
    Package{"berth-source-ldap", "berth-source-ldap"},
    // Programs, as in fuse.PROGRAM.
    Package{"sshfs", "sshfs"},
    Package{"rclone", "rclone"},
    Package{"s3fs", "s3fs"},
    Package{"bindfs", "bindfs"},
    Package{"mergerfs", "mergerfs"},
    Package{"gocryptfs", "gocryptfs"},
    Package{"encfs", "encfs"},
    Package{"curlftpfs", "curlftpfs"},
    Package{"squashfuse", "squashfuse"},
    Package{"fuse-overlayfs", "fuse-overlayfs"},
    Package{"fuse2fs", "fuse2fs"},
    Package{"archivemount", "archivemount"},
    Package{"unionfs", "unionfs-fuse"},
    Package{"ceph-fuse", "ceph-fuse"},
};

constexpr std::array<std::string_view, 4> kTags = {"LABEL=", "UUID=", "PARTLABEL=", "PARTUUID="};

std::string_view package_of(std::string_view name) {
  const auto* const found =
      std::find_if(kPackages.begin(), kPackages.end(), [&](const Package& p) { return p.name == name; });
  return found == kPackages.end() ? std::string_view() : found->package;
}

/// A type is part of a path in the search for its helper.
bool is_plain(std::string_view type) { return !type.empty() && type.find('/') == std::string_view::npos; }

bool has_helper(std::string_view type) {
  if (!is_plain(type)) return false;
  for (const char* const directory : {"/sbin/mount.", "/usr/sbin/mount."}) {
    if (::access((directory + std::string(type)).c_str(), X_OK) == 0) return true;
  }
  return false;
}

/// The program that serves a FUSE type: "sshfs" of "fuse.sshfs", or of the type "fuse" with the source "sshfs#host:".
std::string_view fuse_program(std::string_view type, std::string_view source) {
  if (const std::size_t dot = type.find('.'); dot != std::string_view::npos) return type.substr(dot + 1);
  const std::size_t hash = source.find('#');
  return hash == std::string_view::npos ? std::string_view() : source.substr(0, hash);
}

Error missing(std::string_view what, std::string_view name) {
  std::string story(what);
  story.append(" is not installed");
  const std::string_view package = package_of(name);
  story.append(package.empty() ? "; install it, or correct its name" : "; on Debian: apt install ").append(package);
  return Error(ENODEV, std::move(story));
}

}  // namespace

bool wants_mount_program(std::string_view type, std::string_view source) {
  if (is_helper_type(type) || has_helper(type)) return true;
  return std::any_of(kTags.begin(), kTags.end(), [&](std::string_view tag) { return source.starts_with(tag); });
}

Result<> check_mount_helper(std::string_view type, std::string_view source) {
  const std::string_view family = fuse_family(type);
  const bool is_bare = !family.empty() && type == family && fuse_program(type, source).empty();
  // mount.fuse takes such a source for the program.
  if (is_bare && sys::find_program(source).empty()) {
    return fail(EINVAL, "the type \"" + std::string(type) +
                            "\" does not say which program; write fuse.PROGRAM, such as fuse.sshfs");
  }
  if (has_helper(type)) return {};
  if (family.empty()) {
    if (type == "auto" || !is_helper_type(type)) return {};
    return fail(missing("mount." + std::string(type), type));
  }
  const std::string_view program = fuse_program(type, source);
  if (!is_bare && sys::find_program(program).empty()) return fail(missing(program, program));
  if (!has_helper(family)) return fail(missing("mount." + std::string(family), family));
  return {};
}

Result<> check_may_mount(std::string_view type) {
  return sys::is_own_root() ? check_mount_without_root(type) : Result<>();
}

Result<> check_mount_without_root(std::string_view type) {
  constexpr std::array<std::string_view, 3> kForAllUsers{"tmpfs", "ramfs", "overlay"};
  if (!fuse_family(type).empty()) return {};
  if (std::find(kForAllUsers.begin(), kForAllUsers.end(), type) != kForAllUsers.end()) return {};
  if (!is_helper_type(type) && !sys::kernel_knows_filesystem(type)) return {};
  return fail(EPERM, "the kernel lets root alone mount the type " + quote(type) +
                         "; start berth as root, or use a type of FUSE, such as fuse.sshfs");
}

Result<> check_program(std::string_view program) {
  const bool is_path = program.find('/') != std::string_view::npos;
  if (is_path ? ::access(std::string(program).c_str(), X_OK) == 0 : !sys::find_program(program).empty()) return {};
  if (is_path && ::access(std::string(program).c_str(), F_OK) == 0)
    return fail(EACCES, std::string(program) + " is not executable; chmod +x, or correct the path");
  return fail(missing(program, program.substr(program.rfind('/') + 1)));
}

std::string_view fuse_package(std::string_view program) {
  const auto* const first =
      std::find_if(kPackages.begin(), kPackages.end(), [](const Package& p) { return p.name == kFirstFuseProgram; });
  const auto* const found = std::find_if(first, kPackages.end(), [&](const Package& p) { return p.name == program; });
  return found == kPackages.end() ? std::string_view() : found->package;
}

Result<> check_source_is_no_option(std::string_view source) {
  if (!source.starts_with('-')) return {};
  return fail(EINVAL, "the source " + quote(source) + " begins with '-', which a mount helper takes for an option");
}

}  // namespace berth::manager
