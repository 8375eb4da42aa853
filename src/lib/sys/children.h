#pragma once

#include <sys/types.h>

#include <cstddef>

namespace berth::sys {

/// Which children of this process are owned by a Process, so that reap_orphans() leaves them alone.
///
/// Threading: any thread.
namespace children {

/// A child is about to be started: until as many calls of started() or not_started(), every ended child that nobody owns
/// may be it.
void starting();
void started(pid_t pid);
void not_started();

/// The child has been collected, or is given up to reap_orphans().
void forget(pid_t pid);

}  // namespace children
}  // namespace berth::sys
