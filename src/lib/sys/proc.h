#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"

/// The files of proc(5): where they are, and how they are read. What a process or a thread is called here is its number
/// in the pid namespace of /proc, which may be another one than ours.
namespace berth::sys::proc {

/// "/proc/NUMBER/NAME".
std::string path_of(pid_t thread, std::string_view name);

/// A whole file, of at most 1 MiB. Errors: ENOENT, ESRCH when the process is gone; EFBIG.
Result<std::string> read(const std::string& path);

/// Where a link of /proc leads ("pid:[4026531836]"); empty when that cannot be read.
std::string link_target(const std::string& path);

/// The entries of a directory whose names are numbers.
std::vector<pid_t> numbers_in(const std::string& directory);

/// The value of the line "KEY:\tVALUE"; empty when there is none.
std::string_view field_of(std::string_view text, std::string_view key) noexcept;

/// A number at the start of `text`; 0: there is none.
pid_t number_at(std::string_view text) noexcept;

/// The last number of a field of several ("NSpid:\t4711\t2"): what the process is called in its own pid namespace.
pid_t last_number_of(std::string_view field) noexcept;

/// The calling process; 0 when that is not known.
pid_t own_process();

/// Whether a process is in the calling one's pid namespace.
bool is_in_own_pid_namespace(pid_t process);

/// The process that a pidfd of this process's is of; 0: it has ended, or that is no pidfd.
pid_t process_of(int pidfd);

}  // namespace berth::sys::proc
