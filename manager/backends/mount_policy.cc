#include "manager/backends/mount_policy.h"

#include <fcntl.h>
#include <sys/mount.h>

namespace berth::manager {

std::uint64_t policy_attributes(const SharePolicy& policy) noexcept {
  std::uint64_t attributes = 0;
  if (!policy.allow_suid) attributes |= MOUNT_ATTR_NOSUID;
  if (!policy.allow_devices) attributes |= MOUNT_ATTR_NODEV;
  if (policy.read_only) attributes |= MOUNT_ATTR_RDONLY;
  return attributes;
}

MountOptions policed_options(const ShareSpec& spec) {
  MountOptions options = spec.mount_options();
  const std::uint64_t demanded = policy_attributes(spec.policy());
  options.attributes |= demanded;
  options.attributes_clear &= ~demanded;
  if (spec.policy().read_only) options.read_only = true;
  if (options.read_only) options.attributes |= MOUNT_ATTR_RDONLY;
  return options;
}

std::string policed_option_words(const ShareSpec& spec) {
  std::string words = spec.options();
  const auto add = [&](const char* word) { words.append(words.empty() ? "" : ",").append(word); };
  if (!spec.policy().allow_suid) add("nosuid");
  if (!spec.policy().allow_devices) add("nodev");
  if (spec.policy().read_only) add("ro");
  return words;
}

Result<> enforce_attributes(int root, std::uint64_t attributes) {
  if (attributes == 0) return {};
  mount_attr wanted = {};
  wanted.attr_set = attributes;
  // How access times are kept is one field, of which all must be cleared to set a part (mount_setattr(2)).
  if ((attributes & MOUNT_ATTR__ATIME) != 0) wanted.attr_clr = MOUNT_ATTR__ATIME;
  if (::mount_setattr(root, "", AT_EMPTY_PATH, &wanted, sizeof wanted) != 0) {
    return fail(Error::last().within("the mount does not take the attributes that the policy demands"));
  }
  return {};
}

}  // namespace berth::manager
