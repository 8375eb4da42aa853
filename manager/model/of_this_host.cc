#include "manager/model/of_this_host.h"

#include <algorithm>
#include <array>

namespace berth::manager {
namespace {

/// File systems whose data is this host's own.
bool is_local_type(std::string_view type) noexcept {
  constexpr std::array kTypes{"bcachefs", "btrfs",  "cramfs", "erofs",   "exfat",   "ext2",  "ext3",
                              "ext4",     "f2fs",   "hfs",    "hfsplus", "iso9660", "jfs",   "minix",
                              "msdos",    "nilfs2", "ntfs3",  "overlay", "ramfs",   "romfs", "squashfs",
                              "tmpfs",    "udf",    "ufs",    "vfat",    "xfs",     "zonefs"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

}  // namespace

bool is_of_this_host(const ShareSpec& spec) noexcept {
  const bool may_be_part = spec.kind() == ShareKind::kBind && !spec.policy().required.empty();
  return spec.kind() == ShareKind::kDir || (spec.kind() == ShareKind::kBind && !may_be_part) ||
         (spec.kind() == ShareKind::kFilesystem && is_local_type(spec.type()));
}

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

}  // namespace berth::manager
