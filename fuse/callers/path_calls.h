#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

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

/// A digest of the system call that a thread is in while it waits for an answer: what /proc shows of the call (number,
/// arguments, stack pointer). Two digests that differ are of two calls; the same digest may be of two calls, one after
/// the other. To be called as the daemon.
constexpr std::uint64_t kNoCall = 0;       ///< a thread of the kernel's own, or one that may not be looked at
constexpr std::uint64_t kCallNotSeen = 1;  ///< it does not get a processor, and so /proc does not show its call
std::uint64_t call_of(pid_t thread);

/// A walk along a path, of a thread that waits for an answer in it. The kernel's stack of the thread shows it
/// (/proc/TID/stack).
struct PathWalk {
  /// A digest of the place in the kernel from which it walks. A call that walks again because of ESTALE does so from
  /// another place than before (filename_lookup(), do_filp_open(), filename_parentat() of Linux 6.18).
  std::uint64_t begun_at;
  bool asks_again;  ///< about a name that the kernel has; else the kernel looks the name up, and has others wait for it
};
/// Nothing: that cannot be seen. To be called as the daemon.
std::optional<PathWalk> path_walk_of(pid_t thread);
/// What it finds in such a stack.
std::optional<PathWalk> path_walk_in(std::string_view stack);

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
