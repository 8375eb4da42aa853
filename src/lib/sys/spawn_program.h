#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// A program just started.
struct Spawned {
  pid_t pid;
  UniqueFd pidfd;
  UniqueFd output;  ///< reading end of its standard output and error, non-blocking
};

/// The result of Process::start().
Result<Spawned> spawn_program(const std::vector<std::string>& argv, const std::vector<std::string>& environment);

}  // namespace berth::sys
