#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "manager/backends/host_view.h"
#include "manager/model/share_spec.h"
#include "manager/model/share_template.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"

namespace berth::manager {

/// The exit status by which a program says that there is no such key: EX_NOUSER of sysexits.h.
inline constexpr int kNoSuchKey = 67;

/// What is asked of a program.
struct LookUpQuestion {
  const ShareSpec& pattern;  ///< whose environment it gets, and whose secrets no text may show
  std::string key = {};
  ShareFields fields = {};                    ///< what the template says of the share, for the answer to add to
  std::vector<std::string> argv = {};         ///< instantiate_program()
  std::vector<std::string> environment = {};  ///< more of it, "NAME=value"
  FindCaller find_caller = {};                ///< for an answer that depends on the user that asks
  TimePoint deadline{};
  int cancel_fd = -1;                             ///< readable when it must be given up at once (-1: never)
  std::atomic<std::int32_t>* programs = nullptr;  ///< as Attempt::programs
};

/// Runs a program that answers by its standard output, and what it has started with it, until the deadline. It runs in
/// a mount namespace of its own, a copy of the host's (AttemptNamespace), so that nothing of it is left. What it prints
/// is the answer.
///
/// Errors: ENOENT when it succeeds and prints nothing, or exits with kNoSuchKey; ETIMEDOUT; ECANCELED; EHOSTDOWN
/// otherwise (EACCES where it says "permission denied"), with a story of what it wrote to its standard error, without
/// secrets.
/// Threading: any; blocks.
Result<std::string> ask_program(const HostView& host, const LookUpQuestion& question);

/// The keys of a template, sorted: the lines that its program prints (`question.argv`, instantiate_listing()), or the
/// names in browsed_directory(). What is no key is left out. Errors: as ask_program(), but for ENOENT; EFBIG beyond
/// kMostKeys.
Result<std::vector<std::string>> list_keys(const HostView& host, const LookUpQuestion& question);
inline constexpr std::size_t kMostKeys = 10'000;

}  // namespace berth::manager
