#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>

#include "fuse/tables/handle_table.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

// The `flags` of a request (O_*) are those of the caller's descriptor now, which fcntl(2) may have changed since it was
// opened, and 0 where the kernel reads or writes pages of a mapping: those come through any descriptor of the file, and
// through one of whatever flags. Bytes go through the handle's own descriptor only where that is how they are to go.

/// Reads until `buffer` is full or the file ends; after a shorter result the kernel takes it that the file ends there.
/// So an error after a part is an error of the whole: the kernel asks again for less.
Result<std::size_t> read_at(const Handle& handle, std::span<char> buffer, off_t offset, int flags);

/// Writes all of `bytes`, with O_APPEND at the end of the file, wherever that is; less when an error came after a part
/// of it.
Result<std::size_t> write_at(const Handle& handle, std::span<const char> bytes, off_t offset, int flags);

/// The error that close(2) of a descriptor of the file would give, with which some file systems report a failed write.
Result<> flush(const Handle& handle);

/// copy_file_range(2), of a part where `size` is large: the caller cannot interrupt it.
Result<std::size_t> copy(const Handle& from, off_t from_offset, const Handle& to, off_t to_offset, std::size_t size);

/// The ioctl(2)s that are about the file and mean the same everywhere: flags and fsxattr (FS_IOC_*). `bytes` is the
/// caller's input, and the output. ENOTTY for all others.
Result<> ioctl_file(const Handle& handle, unsigned command, std::span<char> bytes);
/// Whether it changes something; of those that ioctl_file() knows.
bool ioctl_changes(unsigned command) noexcept;

/// fsync(2) or fdatasync(2).
Result<> sync_file(const Handle& handle, bool data_only);

}  // namespace berth::fuse
