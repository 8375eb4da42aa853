#pragma once

#include <cstdint>
#include <initializer_list>

#include "src/lib/base/result.h"

/// What a process may do as root (capabilities(7)), and what it can never do again.
///
/// All of it is the calling thread's, and threads and processes that it starts later inherit it: so a process narrows
/// itself while it has one thread.
namespace berth::sys {

/// A bit for each capability: 1 << CAP_CHOWN.
using CapabilitySet = std::uint64_t;

constexpr CapabilitySet capabilities(std::initializer_list<unsigned> numbers) noexcept {
  CapabilitySet set = 0;
  for (const unsigned number : numbers) set |= CapabilitySet{1} << number;
  return set;
}

struct Capabilities {
  CapabilitySet effective = 0;
  CapabilitySet permitted = 0;  ///< what this process may make effective, or leave to a process that it forks
  CapabilitySet inheritable = 0;
  CapabilitySet bounding = 0;  ///< what a program that it executes as root has
};

/// Those of the calling thread. Errors: those of capget(2).
Result<Capabilities> own_capabilities() noexcept;

/// capset(2), of the calling thread; its bounding set stays. Errors: EPERM, where it lacks one of `permitted`.
Result<> set_capabilities(const Capabilities& wanted) noexcept;

/// Whether the bounding set is all that the kernel knows: nothing has narrowed it.
bool is_bounding_set_full() noexcept;

/// Gives up what is not in that set of `kept`, and all that is inheritable or ambient. What of it the process lacks it
/// does not get, but a permitted capability becomes effective again. Without CAP_SETPCAP the bounding set stays as it
/// is.
/// Errors: those of capset(2) and prctl(2).
Result<> keep_capabilities(const Capabilities& kept) noexcept;

/// This process and those that it forks never execute a program, and gain no rights by any other means
/// (PR_SET_NO_NEW_PRIVS). A seccomp filter answers EPERM to system calls that only an intruder would make here:
/// execve(2), ptrace(2), those that load code into the kernel, make namespaces or devices, or set the clock.
/// Errors: those of prctl(2) and seccomp(2): EINVAL where the kernel has no filters. The first has its effect all the
/// same.
Result<> forbid_programs() noexcept;

}  // namespace berth::sys
