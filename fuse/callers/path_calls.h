#pragma once

#include <sys/types.h>

#include <cstdint>

namespace berth::fuse {

/// What the kernel makes of ESTALE in the system call that a request belongs to (Linux 6.18, fs/namei.c): whether it
/// walks to the path again by itself, with LOOKUP_REVAL, and its program does not notice.
enum class PathCall : std::uint8_t {
  /// Wherever the call gets ESTALE: open(2), stat(2), unlink(2), mount(2), connect(2), ...
  kAnywhere,
  /// Only at the end of the path. The kernel does not repeat the look-up of a name that is to be made
  /// (filename_create()). Of two paths it does not repeat the first one when the second gets ESTALE: mkdir(2),
  /// mknod(2), symlink(2), link(2), rename(2). A call that cannot be seen, and io_uring(7), count as this.
  kAtItsEnd,
  /// Nowhere: bind(2), calls on descriptors, threads of the kernel's own.
  kNowhere,
};

/// Which of them a thread is in that has sent a request. To be called as the daemon.
PathCall path_call_of(pid_t thread);

// Requests that calls on paths bring, and calls on descriptors, where ESTALE goes to the program: whether it is one of
// the former.

/// For extended attributes, the file system's numbers, a link's target, changed attributes.
bool is_of_path(pid_t thread);
/// For attributes.
bool is_stat_of_path(pid_t thread);

/// Why the kernel asks a thread's way for the attributes of a directory that it may be walking through.
enum class RootCall : std::uint8_t {
  kLooks,       ///< it may look at that directory alone, or hand an error on
  kWatches,     ///< the same, and may watch it from then on: inotify_add_watch(2), fanotify_mark(2)
  kWalks,       ///< in a call that goes into it, and walks again when it meets ESTALE there
  kMakesNode,   ///< the same, unless what it is for has begun: bind(2)
  kWalksTwice,  ///< the same of one that walks to two paths, each of which is walked again by itself: rename(2), link(2)
  kUnknown,     ///< it has not come to wait for the answer yet, for it does not get a processor
};
RootCall root_call_of(pid_t thread);
/// The same, and yields to it for as long as that may take.
RootCall await_root_call_of(pid_t thread);

/// Whether a thread may be in a call that walks to a path. True for one that runs: nothing tells which call it is in.
bool may_be_walking(pid_t thread);

/// Whether a thread may be between the two walks of one system call (rename(2), link(2)). True for a thread that runs:
/// /proc does not show its call.
bool may_be_between_walks(pid_t thread);

}  // namespace berth::fuse
