#include "fuse/shares/access_check.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "manager/model/share_template.h"

namespace berth::fuse {
namespace {

template <typename T>
bool contains(const std::vector<T>& values, T value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

Result<> check_access(const manager::SharePolicy& policy, const sys::Identity& caller, bool changes) {
  if (changes && policy.read_only) return fail(EROFS);
  if (policy.allow_users.empty() && policy.allow_groups.empty()) return {};
  if (caller.uid == 0 || contains(policy.allow_users, caller.uid)) return {};
  // Of a template: the key tells when a share is made of it. No share has it.
  if (contains(policy.allow_users, manager::kKeyUser)) return {};
  if (policy.allow_groups.empty()) return fail(EACCES);
  if (contains(policy.allow_groups, caller.gid)) return {};
  const std::vector<gid_t> groups = sys::groups_of(caller);
  const bool member =
      std::any_of(groups.begin(), groups.end(), [&](gid_t group) { return contains(policy.allow_groups, group); });
  if (!member) return fail(EACCES);
  return {};
}

}  // namespace berth::fuse
