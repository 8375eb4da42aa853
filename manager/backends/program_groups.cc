#include "manager/backends/program_groups.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "src/lib/base/result.h"
#include "src/lib/sys/control_group.h"
#include "src/lib/sys/identity.h"

namespace berth::manager {
namespace {

constexpr std::string_view kPrefix = "share-";
/// How many of those that are left are tried when another one is removed.
constexpr std::size_t kLeftAtOnce = 8;

std::string name_of(std::string_view berth) { return sys::group_name(kPrefix, berth); }

}  // namespace

ProgramGroups::ProgramGroups(int delegated) : delegated_(delegated) {
  const std::vector<std::string> found = sys::groups_below(delegated_);
  const MutexLock lock(mutex_);
  for (const std::string& name : found) {
    if (name.starts_with(kPrefix) && names_.insert(name).second) left_.push_back(name);
  }
}

UniqueFd ProgramGroups::make(std::string_view berth) {
  const std::string name = name_of(berth);
  {
    const MutexLock lock(mutex_);
    std::erase(left_, name);
    if (names_.size() >= kMost && !names_.contains(name)) return {};
    names_.insert(name);
  }
  Result<UniqueFd> group = sys::make_group(delegated_, name);
  if (group) return *std::move(group);
  const MutexLock lock(mutex_);
  names_.erase(name);
  return {};
}

bool ProgramGroups::has(const std::string& name) const {
  const MutexLock lock(mutex_);
  return names_.contains(name);
}

bool ProgramGroups::try_remove(const std::string& name) {
  const Result<> removed = sys::remove_group(delegated_, name);
  if (!removed && removed.error().code() != ENOENT) return false;
  const MutexLock lock(mutex_);
  names_.erase(name);
  return true;
}

void ProgramGroups::remove_if_empty(std::string_view berth) {
  const std::string name = name_of(berth);
  if (has(name)) (void)try_remove(name);
}

void ProgramGroups::remove(std::string_view berth) {
  std::string own = name_of(berth);
  if (!has(own)) return;
  std::vector<std::string> names;
  names.push_back(std::move(own));
  {
    const MutexLock lock(mutex_);
    const auto end = left_.begin() + static_cast<std::ptrdiff_t>(std::min(left_.size(), kLeftAtOnce));
    names.insert(names.end(), left_.begin(), end);
    left_.erase(left_.begin(), end);
  }
  std::erase_if(names, [this](const std::string& name) { return try_remove(name); });
  const MutexLock lock(mutex_);
  for (std::string& name : names) left_.push_back(std::move(name));
}

std::optional<std::uint64_t> ProgramGroups::memory(std::string_view berth) const {
  const std::string name = name_of(berth);
  if (!has(name)) return std::nullopt;
  const sys::AsDaemon as_daemon;
  return sys::memory_of_group(delegated_, name);
}

}  // namespace berth::manager
