#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

/// Control groups of version 2 (cgroups(7)): sets of processes, in a tree of directories.
///
/// Threading: any thread may call anything.
namespace berth::sys {

/// The group that the service manager has delegated to this process (`Delegate=`, systemd.resource-control(5)): the one
/// that this process is in, or the one above where that is named `leaf`. Empty where none is delegated, which is the
/// same as without control groups.
UniqueFd find_delegated_group(std::string_view leaf);

/// The group `name` below `parent`, made where it is not there. Errors: those of mkdir(2), openat(2): EACCES, EROFS;
/// EAGAIN at cgroup.max.descendants, ENOMEM at the kernel's own limit.
Result<UniqueFd> make_group(int parent, const std::string& name) noexcept;
/// Errors: EBUSY while a process is in it that has not ended; ENOENT.
Result<> remove_group(int parent, const std::string& name) noexcept;
/// The names of the groups below it.
std::vector<std::string> groups_below(int parent);

/// This process with all its threads is in that group from now on, and so is what it starts. Errors: those of write(2).
Result<> enter_group(int group) noexcept;
/// Each group below `parent` has its own account of memory and of processes from now on. A controller that the kernel
/// refuses is left out: one that was not delegated, or all where a process is in `parent` itself.
void account_below(int parent) noexcept;
/// Bytes of memory that the group `name` below `parent` uses; nothing where it has no account or is not there.
std::optional<std::uint64_t> memory_of_group(int parent, const std::string& name);

/// A name for a group, of any text: escaped as systemd-escape(1) does. What is too long for a name is cut off, and ends
/// with '~' and a number of the whole text.
std::string group_name(std::string_view prefix, std::string_view text);

}  // namespace berth::sys
