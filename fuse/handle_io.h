#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>

#include "fuse/handle_table.h"
#include "src/base/result.h"

namespace berth::fuse {

/// Reads until `buffer` is full or the file ends; less tells the kernel that the file ends there.
Result<std::size_t> read_at(const Handle& handle, std::span<char> buffer, off_t offset);

/// Writes all of `bytes`; less when an error came after a part of it. `append`: at the end of the file, wherever that is
/// (the caller's descriptor has O_APPEND now, which fcntl(2) may have changed).
Result<std::size_t> write_at(const Handle& handle, std::span<const char> bytes, off_t offset, bool append);

/// What close(2) of a descriptor of the file would say, which some file systems use to report what a write could not.
Result<> flush(const Handle& handle);

/// fsync(2) or fdatasync(2).
Result<> synchronise(const Handle& handle, bool data_only);

}  // namespace berth::fuse
