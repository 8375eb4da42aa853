#pragma once

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// openat(2) with O_CLOEXEC added. Source: open(2).
Result<UniqueFd> open_at(int directory, const char* path, int flags, mode_t mode = 0) noexcept;

/// openat2(2) that cannot leave `directory`: RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, O_CLOEXEC added.
/// Errors: EXDEV when the path leads outside. Source: openat2(2), Linux 5.6.
Result<UniqueFd> open_beneath(int directory, const char* path, int flags, mode_t mode = 0) noexcept;

/// The same that does not leave the mount of `directory` either, nor follows a symbolic link.
/// Errors: EXDEV when something is mounted on the way or at the end, ELOOP.
Result<UniqueFd> open_in_mount(int directory, const char* path, int flags) noexcept;

/// Opens again what an O_PATH descriptor names, with other flags, through /proc/self/fd (proc(5)).
Result<UniqueFd> reopen(int fd, int flags) noexcept;

/// "/proc/self/fd/N", for the system calls that take no descriptor.
std::string proc_path(int fd);

/// mkdir -p with `mode` for each directory that is made. Existing directories are left as they are.
Result<> make_directories(const std::string& path, mode_t mode);

/// Writes the whole of `text` (write(2)). Errors: write(2)'s; a part may be written then.
Result<> write_all(int fd, std::string_view text);

/// The whole of a small file. Errors: EFBIG beyond `limit` bytes.
Result<std::string> read_file(const std::string& path, std::size_t limit);

/// The same of a regular file, and of nothing else: a FIFO would wait for a writer. Errors: EINVAL for another kind of
/// file.
Result<std::string> read_regular_file(const std::string& path, std::size_t limit);

/// Has `content` be the file `path`, of mode `mode`, at once for all readers. No symbolic link at `path` is followed.
/// Errors: those of open(2), write(2) and rename(2).
Result<> replace_file(const std::string& path, std::string_view content, mode_t mode);

/// statx(2) of `path` below `directory` (AT_EMPTY_PATH for "" is added), without following a symbolic link.
Result<struct statx> stat_at(int directory, const char* path, unsigned mask, int flags = 0) noexcept;

/// A statx as the struct stat that libfuse takes.
struct stat to_stat(const struct statx& x) noexcept;

/// Whether the file open as `fd` is on a file system of this machine's kernel alone: no server elsewhere and no program
/// here decides what reading or writing it answers, or to which callers. Source: statfs(2).
bool is_local(int fd) noexcept;

/// How many files this process may have open (RLIMIT_NOFILE, getrlimit(2)).
std::uint64_t file_limit() noexcept;
/// The number that a descriptor gets soon, some more are left free; file_limit() when there are only these few.
int lowest_free_descriptor() noexcept;
/// Of so many descriptors, how many are kept for what must work when all others are taken: mounts, and what a daemon
/// keeps.
constexpr std::uint64_t descriptor_reserve(std::uint64_t limit) noexcept { return limit / 4 < 1024 ? limit / 4 : 1024; }
/// Whether only the reserve is left.
bool few_descriptors_left() noexcept;
/// How many descriptors this process has open. Reads /proc as the calling thread. Source: proc(5), Linux 6.2 for the
/// size of /proc/self/fd; before, they are listed.
std::uint64_t count_descriptors();
/// Lowers this process's limit of open files (RLIMIT_NOFILE) by so many, or by half where there are few.
Result<> lower_file_limit(std::uint64_t by) noexcept;

}  // namespace berth::sys
