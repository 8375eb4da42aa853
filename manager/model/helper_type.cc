#include "manager/model/helper_type.h"

#include <algorithm>
#include <array>

namespace berth::manager {
namespace {

constexpr std::array<std::string_view, 11> kWantHelper = {"nfs",   "nfs4",    "cifs",     "smb3", "ceph", "glusterfs",
                                                          "davfs", "ntfs-3g", "ecryptfs", "zfs",  "ocfs2"};

}  // namespace

std::string_view fuse_family(std::string_view type) noexcept {
  const std::string_view family = type.substr(0, type.find('.'));
  return family == "fuse" || family == "fuse3" || family == "fuseblk" ? family : std::string_view();
}

std::span<const std::string_view> helper_types() noexcept { return kWantHelper; }

bool is_helper_type(std::string_view type) noexcept {
  return type == "auto" || !fuse_family(type).empty() ||
         std::find(kWantHelper.begin(), kWantHelper.end(), type) != kWantHelper.end();
}

}  // namespace berth::manager
