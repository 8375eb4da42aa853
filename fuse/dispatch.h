#pragma once

#include "fuse/operations.h"

namespace berth::fuse {

/// libfuse's table of operations, each sent to the Operations that own the node (Session::router()), behind the last
/// wall. The session is libfuse's user data.
fuse_lowlevel_ops dispatch_table() noexcept;

}  // namespace berth::fuse
