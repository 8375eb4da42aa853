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
  UniqueFd answer;  ///< the same of its standard output alone; empty: that is in `output`
};

/// How Process::start() and Process::start_question() differ.
struct SpawnOptions {
  bool answers = false;                ///< its standard output is Spawned::answer
  bool has_clean_environment = false;  ///< nothing of this process's own environment
  int group = -1;                      ///< the control group that it begins in; -1: this process's own
};

/// The result of Process::start().
Result<Spawned> spawn_program(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                              SpawnOptions options = {});

}  // namespace berth::sys
