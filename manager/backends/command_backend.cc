#include "manager/backends/command_backend.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "manager/backends/attempt_namespace.h"
#include "manager/backends/fuse_server.h"
#include "manager/backends/helper_backend.h"
#include "manager/backends/mount_helpers.h"
#include "manager/backends/mount_policy.h"
#include "manager/backends/mount_watch.h"
#include "manager/backends/output_reader.h"
#include "manager/backends/root_answer.h"
#include "manager/backends/secret_files.h"
#include "manager/backends/serving_program.h"
#include "manager/backends/started_programs.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/thread.h"

namespace berth::manager {
namespace {

/// How long a program whose mount needs no server has to end, so that its exit status is known with the attempt.
constexpr std::chrono::seconds kEndGrace{1};
/// How long programs that an unmount has left have between SIGTERM and SIGKILL.
constexpr std::chrono::seconds kTermGrace{2};

/// What became of a program that was started to mount.
struct Outcome {
  std::optional<sys::ExitStatus> ended;
  bool mounted = false;
};

/// Whether the mount of a program that has ended is of use: it needs no server, or another program serves it. One that
/// has failed has to have left a mount that answers.
bool is_served_on(const Attempt& attempt, bool has_succeeded) {
  const auto entry = sys::find_mount(attempt.berth);
  if (!entry || !*entry || !is_served_type((*entry)->type)) return true;
  const Result<RootAnswer> root = RootAnswer::ask(attempt.berth);
  if (!root) return false;
  const bool has_answered = wait_readable(root->fd(), has_succeeded ? now() : attempt.deadline);
  return has_answered ? root->outcome().has_value() : has_succeeded;
}

/// Runs until the mount answers or the program has ended. A mount in the mount table proves nothing yet: a program
/// mounts before it serves.
/// Errors: ETIMEDOUT, ECANCELED, those of says_dead(); the program then still runs.
Result<Outcome> await_mount(sys::Process& process, MountWatch& watch, const Attempt& attempt) {
  std::optional<RootAnswer> root;
  for (;;) {
    const std::optional<sys::MountEntry> entry = TRY(sys::find_mount(attempt.berth));
    const bool is_served = entry && is_served_type(entry->type);
    if (is_served && !root) {
      root = TRY(RootAnswer::ask(attempt.berth));
      TRY_VOID(watch.also(root->fd()));
    }
    if (root && root->has_answered()) {
      TRY_VOID(root->outcome());
      return Outcome{std::nullopt, true};
    }
    // Without a need to be served, the program has nothing more to do than to end.
    const bool is_to_end = entry && !is_served;
    const TimePoint until = is_to_end ? std::min(attempt.deadline, now() + kEndGrace) : attempt.deadline;
    const Result<sys::ExitStatus> ended = process.wait(until, is_to_end ? -1 : watch.fd());
    if (ended) return Outcome{*ended, is_mounted(attempt.berth) && is_served_on(attempt, ended->success())};
    if (is_to_end && ended.error().code() == ETIMEDOUT) return Outcome{std::nullopt, true};
    if (ended.error().code() != ECANCELED) return fail(ended.error());
    if (watch.cancelled()) return fail(ECANCELED, "given up");
  }
}

/// The mount as the share's, with the program as its helper if that still runs.
Result<RealMount> adopt(AttemptNamespace& attempt_namespace, const ShareSpec& spec, const std::string& source,
                        const Attempt& attempt, std::string warning, std::optional<sys::Process> running) {
  const std::string& berth = attempt.berth;
  TRY_VOID(attempt_namespace.bring_home());
  RealMount mount = TRY(adopt_mount(spec, source, berth, policed_options(spec).attributes, std::move(warning)));
  if (!running) {
    mount.programs = attempt_namespace.leave();
    return mount;
  }
  Result<std::unique_ptr<ServingProgram>> helper =
      ServingProgram::make(std::move(*running), berth, mount.id, attempt_namespace.number(), attempt.said);
  if (!helper) {
    mount = RealMount{};
    clear_berth(berth);
    return fail(helper.error());
  }
  mount.helper = std::move(*helper);
  mount.programs = attempt_namespace.leave();
  return mount;
}

Result<> check(const ShareSpec& spec, const std::string& source) {
  if (spec.mount_command().empty()) return fail(EINVAL, "the share has no mount command");
  return check_source_is_no_option(source);
}

std::string replaced(std::string_view text, std::string_view source, std::string_view mountpoint) {
  const std::array<std::pair<std::string_view, std::string_view>, 2> words = {
      std::pair{std::string_view("{mountpoint}"), mountpoint}, std::pair{std::string_view("{source}"), source}};
  std::string result;
  while (!text.empty()) {
    const auto* const found =
        std::find_if(words.begin(), words.end(), [&](const auto& word) { return text.starts_with(word.first); });
    if (found == words.end()) {
      result.push_back(text.front());
      text.remove_prefix(1);
    } else {
      result.append(found->second);
      text.remove_prefix(found->first.size());
    }
  }
  return result;
}

}  // namespace

std::vector<std::string> expand_command(const std::vector<std::string>& argv, std::string_view source,
                                        std::string_view mountpoint) {
  std::vector<std::string> expanded;
  expanded.reserve(argv.size());
  for (const std::string& element : argv) expanded.push_back(replaced(element, source, mountpoint));
  return expanded;
}

MountResult CommandBackend::mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  std::vector<std::string> argv = expand_command(spec.mount_command(), source, attempt.berth);
  if (Result<> usable = check(spec, source); !usable) {
    return tl::unexpected(failed_step(usable.error(), std::move(argv)));
  }
  Result<AttemptNamespace> attempt_namespace = AttemptNamespace::enter(host_, attempt, argv);
  if (!attempt_namespace)
    return tl::unexpected(
        failed_step(attempt_namespace.error().within("cannot make a mount namespace"), std::move(argv)));
  Result<MountWatch> watch = MountWatch::make(attempt.cancel_fd);
  if (!watch) return tl::unexpected(failed_step(watch.error().within("cannot watch the mount table")));
  const Result<std::vector<std::string>> environment = program_environment(spec);
  if (!environment) return tl::unexpected(failed_step(environment.error(), std::move(argv)));
  const UniqueFd group = group_of(attempt);
  Result<sys::Process> started = sys::Process::start(argv, *environment, group.get());
  if (!started) return tl::unexpected(failed_step(started.error(), std::move(argv)));
  sys::Process process = std::move(*started);

  const Result<Outcome> outcome = await_mount(process, *watch, attempt);
  if (!outcome) {
    const bool late = outcome.error().code() == ETIMEDOUT;
    const char* const state =
        is_mounted(attempt.berth) ? " has mounted, but its root did not answer" : " did not mount";
    const Error cause = late ? too_late(argv.front() + state, spec) : outcome.error();
    return tl::unexpected(give_up(cause, std::move(argv), process));
  }
  if (!outcome->ended) {
    Result<RealMount> mount = adopt(*attempt_namespace, spec, source, attempt, "", std::move(process));
    if (!mount) return tl::unexpected(failed_step(mount.error(), std::move(argv)));
    return std::move(*mount);
  }
  AttemptFailure failure = failed_program(std::move(argv), {*outcome->ended, process.output()});
  if (outcome->mounted) {
    std::string warning = outcome->ended->success() ? "" : std::string(failure.error.story());
    Result<RealMount> mount = adopt(*attempt_namespace, spec, source, attempt, std::move(warning), std::nullopt);
    if (mount && attempt.said) attempt.said(failure.output);
    if (mount) mount->output = OutputReader::make(process.take_output_pipe(), attempt.said);
    if (mount) return std::move(*mount);
    failure.error = failure.error.within(mount.error().message());
  } else if (outcome->ended->success()) {
    failure.error =
        Error(EHOSTDOWN, failure.command.front() + " ended, but nothing is mounted at " + quote(attempt.berth));
  }
  return tl::unexpected(std::move(failure));
}

namespace {

/// Runs the unmount command, and waits until nothing is mounted any more.
Result<> unmount_by(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                    const RealMount& mount, const Attempt& attempt) {
  // A helper that is asked to end takes off the mount that it sees, in its own mount namespace.
  MountWatch watch = TRY(MountWatch::make(mount.helper ? mount.helper->pidfd() : -1));
  if (attempt.cancel_fd >= 0) TRY_VOID(watch.also(attempt.cancel_fd));
  const UniqueFd group = group_of(attempt);
  const sys::Finished finished = TRY(sys::run(argv, attempt.deadline, attempt.cancel_fd, environment, group.get()));
  if (!finished.status.success() && is_mounted(attempt.berth)) {
    const Error told = failed_program(argv, finished).error;
    const bool busy = finished.output.find("busy") != std::string::npos;
    return fail(busy ? EBUSY : EIO, std::string(told.story()));
  }
  // The command may only have asked the helper to end.
  while (is_mounted(attempt.berth)) {
    if (!watch.wait(attempt.deadline)) return fail(ETIMEDOUT, argv.front() + " ended, but the mount is still there");
    if (is_readable(attempt.cancel_fd)) return fail(ECANCELED);
    if (watch.cancelled()) return sys::unmount(attempt.berth, 0);
  }
  return {};
}

}  // namespace

Result<> CommandBackend::take_off(const ShareSpec& spec, const RealMount& mount, const Attempt& attempt) {
  if (spec.unmount_command().empty()) return BerthBackend::take_off(spec, mount, attempt);
  const std::vector<std::string> argv = expand_command(spec.unmount_command(), mount.source, attempt.berth);
  const std::vector<std::string> environment = TRY(in_host(host_, [&] { return program_environment(spec); }));
  Result<> result;
  // A thread of its own, which stays in their namespace.
  std::thread thread = TRY(sys::start_thread("berth-unmount", [&] {
    const std::unique_ptr<AttemptPrograms> programs = begin_started_programs();
    if (programs && attempt.programs != nullptr) *attempt.programs = programs->descriptor();
    result = unmount_by(argv, environment, mount, attempt);
    if (!programs) return;
    programs->end(now() + kTermGrace, attempt.cancel_fd);
    if (attempt.programs != nullptr) *attempt.programs = -1;
  }));
  thread.join();
  return result;
}

}  // namespace berth::manager
