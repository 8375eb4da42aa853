#include "manager/backends/helper_backend.h"

#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "manager/backends/attempt_namespace.h"
#include "manager/backends/fuse_server.h"
#include "manager/backends/mount_helpers.h"
#include "manager/backends/mount_policy.h"
#include "manager/backends/output_reader.h"
#include "manager/backends/secret_files.h"
#include "src/lib/base/relevant_line.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/process.h"

namespace berth::manager {
namespace {

std::vector<std::string> mount_argv(const ShareSpec& spec, const std::string& source, const std::string& berth) {
  std::vector<std::string> argv = {"mount", "-t", spec.type()};
  std::string words = policed_option_words(spec);
  // Else sshfs throws away what ssh writes ("Permission denied").
  if (spec.type() == "fuse.sshfs") words.append(words.empty() ? "" : ",").append("sshfs_verbose");
  if (!words.empty()) {
    argv.emplace_back("-o");
    argv.push_back(std::move(words));
  }
  argv.emplace_back("--");
  argv.push_back(source);
  argv.push_back(berth);
  return argv;
}

Result<> check(const ShareSpec& spec, const std::string& source) {
  TRY_VOID(check_source_is_no_option(source));
  // Which types have a helper is known where it is mounted alone.
  if (!spec.mount_options().subdirectory.empty()) {
    return fail(EINVAL, "the option \"X-mount.subdir\" is not for a type with a mount helper");
  }
  return check_mount_helper(spec.type(), source);
}

}  // namespace

Result<RealMount> adopt_mount(const ShareSpec& spec, const std::string& source, const std::string& berth,
                              std::uint64_t attributes, std::string warning) {
  Result<std::optional<MountAtBerth>> found = find_at_berth(spec, berth);
  Result<> obeys;
  if (found && *found) obeys = enforce_attributes((*found)->mount.root.get(), attributes);
  if (!found || !obeys) {
    Error error = found ? obeys.error() : found.error();
    found = fail(error);  // closes the root, which would keep a forced unmount from ending the file system
    clear_berth(berth);
    return fail(std::move(error));
  }
  if (!*found) return fail(ENOENT, "nothing is mounted at " + quote(berth));
  RealMount mount = std::move((*found)->mount);
  mount.source = source;
  if ((*found)->is_served) mount.helper = find_fuse_server(mount.root.get());
  mount.warning = std::move(warning);
  return mount;
}

AttemptFailure give_up(const Error& cause, std::vector<std::string> argv, sys::Process& process) {
  /// How long a program that failed its attempt has between SIGTERM and SIGKILL.
  constexpr std::chrono::seconds kTermGrace{2};
  const sys::ExitStatus status = process.end(now() + kTermGrace);
  AttemptFailure failure = failed_step(cause, std::move(argv));
  failure.exit = sys::to_string(status);
  failure.output = process.output();
  if (const std::string_view reason = relevant_line(failure.output); !reason.empty()) {
    failure.error =
        Error(failure.error.code(), std::string(failure.error.story()).append(", and said ").append(quote(reason)));
  }
  return failure;
}

MountResult HelperBackend::mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  std::vector<std::string> argv = mount_argv(spec, source, attempt.berth);
  Result<AttemptNamespace> attempt_namespace = AttemptNamespace::enter(host_, attempt, argv);
  if (!attempt_namespace)
    return tl::unexpected(
        failed_step(attempt_namespace.error().within("cannot make a mount namespace"), std::move(argv)));
  if (Result<> usable = check(spec, source); !usable) {
    return tl::unexpected(failed_step(usable.error(), std::move(argv)));
  }

  const Result<std::vector<std::string>> environment = program_environment(spec);
  if (!environment) return tl::unexpected(failed_step(environment.error(), std::move(argv)));
  const UniqueFd group = group_of(attempt);
  Result<sys::Process> process = sys::Process::start(argv, *environment, group.get());
  if (!process) return tl::unexpected(failed_step(process.error(), std::move(argv)));
  const Result<sys::ExitStatus> ended = process->wait(attempt.deadline, attempt.cancel_fd);
  if (!ended) {
    const bool late = ended.error().code() == ETIMEDOUT;
    const Error cause = late ? too_late(argv.front() + " did not finish", spec) : ended.error();
    return tl::unexpected(give_up(cause, std::move(argv), *process));
  }
  const bool success = ended->success();
  AttemptFailure failure = failed_program(std::move(argv), {*ended, process->output()});
  const Result<> home = attempt_namespace->bring_home();
  Result<RealMount> mount = home ? adopt_mount(spec, source, attempt.berth, policy_attributes(spec.policy()),
                                               success ? "" : std::string(failure.error.story()))
                                 : fail(home.error());
  if (mount) {
    if (attempt.said) attempt.said(failure.output);
    mount->output = OutputReader::make(process->take_output_pipe(), attempt.said);
    mount->programs = attempt_namespace->leave();
    return std::move(*mount);
  }
  if (success) {
    failure.error =
        Error(caller_code(mount.error().code()), "mount(8) succeeded, but " + std::string(mount.error().story()));
  } else if (mount.error().code() != ENOENT) {
    failure.error = failure.error.within(mount.error().message());
  }
  return tl::unexpected(std::move(failure));
}

}  // namespace berth::manager
