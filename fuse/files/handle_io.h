#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>

#include "fuse/tables/handle_table.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// Reads until `buffer` is full or the file ends; less tells the kernel that the file ends there.
Result<std::size_t> read_at(const Handle& handle, std::span<char> buffer, off_t offset);

/// Writes all of `bytes`; less when an error came after a part of it. `append`: at the end of the file, wherever that is
/// (the caller's descriptor has O_APPEND now, which fcntl(2) may have changed).
Result<std::size_t> write_at(const Handle& handle, std::span<const char> bytes, off_t offset, bool append);

/// What close(2) of a descriptor of the file would say, which some file systems use to report what a write could not.
Result<> flush(const Handle& handle);

/// copy_file_range(2), of a part where `size` is large: nobody can interrupt it.
Result<std::size_t> copy(const Handle& from, off_t from_offset, const Handle& to, off_t to_offset, std::size_t size);

/// The ioctl(2)s that are about the file and mean the same everywhere: flags and fsxattr (FS_IOC_*). `bytes` is what the
/// caller gives, and what he gets. ENOTTY for all others.
Result<> control(const Handle& handle, unsigned command, std::span<char> bytes);
/// Whether it changes something; of those that control() knows.
bool changes(unsigned command) noexcept;

/// fsync(2) or fdatasync(2).
Result<> synchronise(const Handle& handle, bool data_only);

}  // namespace berth::fuse
