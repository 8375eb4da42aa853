#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

/// The files of proc(5): where they are, and how they are read. What a process or a thread is called here is its number
/// in the pid namespace of /proc, which may be another one than ours.
namespace berth::sys::proc {

/// "/proc/NUMBER/NAME".
std::string path_of(pid_t thread, std::string_view name);

/// A whole file, of at most 1 MiB. Errors: ENOENT, ESRCH when the process is gone; EFBIG.
Result<std::string> read(const std::string& path);

/// Where a link of /proc leads ("pid:[4026531836]"); empty when that cannot be read.
std::string link_target(const std::string& path);

/// The name of a process (proc(5), comm); empty when it is gone.
std::string command_of(pid_t process);

/// The entries of a directory whose names are numbers.
std::vector<pid_t> numbers_in(const std::string& directory);

/// The value of the line "KEY:\tVALUE"; empty when there is none.
std::string_view field_of(std::string_view text, std::string_view key) noexcept;

/// A number at the start of `text`; 0: there is none.
pid_t number_at(std::string_view text) noexcept;

/// The numbers of a field of several: of "NSpid:\t4711\t2", what the process is called in each pid namespace that it is
/// in, from that of /proc inwards.
std::vector<pid_t> numbers_of(std::string_view field);

/// The calling process; 0 when that is not known.
pid_t own_process();

/// A process that is held by a pidfd: no later process of its number is taken for it.
struct HeldProcess {
  pid_t number = 0;  ///< in /proc
  pid_t pid = 0;     ///< in the calling process's pid namespace
  UniqueFd pidfd;

  void signal(int number_of_signal) const noexcept;
};
/// Holds a process of the calling one's pid namespace, or of one below it. Empty: it is in another one, or `is_it` is
/// false, which is called again when the process is held.
std::optional<HeldProcess> hold(pid_t number, const std::function<bool(pid_t number)>& is_it);
/// All such processes but the calling one.
std::vector<HeldProcess> hold_all(const std::function<bool(pid_t number)>& is_it);
/// The one of them that has got its number last. Where a process has just been started, this looks at few others,
/// however many there are.
std::optional<HeldProcess> hold_newest(const std::function<bool(pid_t number)>& is_it);

/// The process that has started `number`, or has got it when that one ended; 0: there is none, or it cannot be seen.
pid_t parent_of(pid_t number);

/// The process that a pidfd of this process's is of; 0: it has ended, or that is no pidfd.
pid_t process_of(int pidfd);

}  // namespace berth::sys::proc
