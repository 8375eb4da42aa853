#pragma once

#include <string_view>

#include "src/lib/base/result.h"

namespace berth::manager {

/// What mount(8) runs for file systems that the kernel cannot mount alone: /sbin/mount.TYPE.

/// Whether `type` goes through mount(8): a helper for it is installed, it is known to require one (nfs, cifs, fuse.*),
/// it is "auto", or the source is a tag (LABEL=, UUID=) that only mount(8) resolves.
bool wants_mount_program(std::string_view type, std::string_view source);

/// Whether everything is installed that mount(8) needs for `type`.
/// Errors: ENODEV with a story that names what is missing and the Debian package that has it.
Result<> check_mount_helper(std::string_view type, std::string_view source);

/// Whether this process may mount such a file system: where berth is root in a user namespace of its own alone, the
/// kernel lets it mount few types (FS_USERNS_MOUNT, include/linux/fs.h). Errors: EPERM with a story.
Result<> check_may_mount(std::string_view type);
/// The same for a berth that is root in such a user namespace, whatever this process is.
Result<> check_mount_without_root(std::string_view type);

/// Whether `program` is there: a path, or a name in the PATH of programs that mount. Errors: ENODEV as above.
Result<> check_program(std::string_view program);

/// The Debian package of a program that serves FUSE file systems ("sshfs"); empty: none is known.
std::string_view fuse_package(std::string_view program);

/// A source that begins with '-' is refused: for mount(8) itself "--" ends the options, but a mount helper gets
/// it as its first argument and takes it for one.
/// Errors: EINVAL with a story.
Result<> check_source_is_no_option(std::string_view source);

}  // namespace berth::manager
