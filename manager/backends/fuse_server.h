#pragma once

#include <memory>

#include "manager/model/backend.h"

namespace berth::manager {

/// Whether mounts of this type (as in mountinfo) need a program that serves them.
bool is_served_type(std::string_view type);

/// The program that serves the FUSE mount that `root` is the root of, when it is not a child of berth any more
/// (mount(8) started it, and it became a daemon): the process that has this connection's /dev/fuse open, by
/// /proc/PID/fdinfo (fuse_connection, Linux 6.16). Null where the kernel does not report it, or when the process is in
/// another pid namespace.
///
/// Asks no server. end() of the result ends the program, though not its children.
std::unique_ptr<HelperProcess> find_fuse_server(int root);

}  // namespace berth::manager
