#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "manager/model/backend.h"
#include "src/lib/sys/process.h"

namespace berth::manager {

/// What Backend::mount returns.
using MountResult = tl::expected<RealMount, AttemptFailure>;

/// What callers are answered after an attempt that failed with the errno value `code`: EACCES, ENODEV, ETIMEDOUT and
/// ECANCELED as they are, EHOSTDOWN for everything else. Never ENOENT: a share that is not available must not look like
/// a name that is not there.
int caller_code(int code) noexcept;

/// A failed step of berth's own, `cause` being what really happened. `command`: the program that it was about, if any.
AttemptFailure failed_step(const Error& cause, std::vector<std::string> command = {});

/// Of a program that was still under way when mount_timeout was over: `what` it did not do. The errno is ETIMEDOUT.
Error too_late(std::string_view what, const ShareSpec& spec);

/// A program that ended without success. If what it wrote shows the cause, that decides the errno for callers
/// ("Permission denied": EACCES; "unknown filesystem type": ENODEV).
AttemptFailure failed_program(std::vector<std::string> command, const sys::Finished& finished);

/// One failed attempt with one of a share's sources.
struct SourceFailure {
  std::string source;
  AttemptFailure failure;
};
/// The failure of all sources, each named with its own. One alone stays as it is. `failures` is not empty.
AttemptFailure join_failures(std::vector<SourceFailure> failures);

}  // namespace berth::manager
