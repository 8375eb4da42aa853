#pragma once

#include "fuse/session/operations.h"
#include "fuse/wire/protocol.h"

namespace berth::fuse {

/// libfuse's table of operations, each sent to the Operations that own the node (Session::router()), behind the last
/// wall. The session is libfuse's user data.
fuse_lowlevel_ops dispatch_table() noexcept;

/// Gives a whole request that libfuse 3.14 does not know (O_TMPFILE, statx(2)) the opcode of one that it parses in the
/// same way. What is in the table knows it again when it is called, by this thread and before the next request.
void map_unknown_opcodes(const protocol::Message& message) noexcept;

}  // namespace berth::fuse
