#pragma once

#include <memory>
#include <string>

#include "manager/model/backend.h"

namespace berth::manager {

/// Whether mounts of this type (as in mountinfo) need a program that serves them.
bool is_served_type(std::string_view type);

/// The program that serves the FUSE mount that `root` is the root of, when it is not a child of ours any more (mount(8)
/// started it, and it became a daemon): who has this connection's /dev/fuse open, as /proc/PID/fdinfo says
/// (fuse_connection, Linux 6.16). Null where the kernel does not say, or when it is in another pid namespace than ours.
///
/// Asks no server. end() of the result ends the program, though not its children.
std::unique_ptr<HelperProcess> find_fuse_server(int root);

}  // namespace berth::manager
