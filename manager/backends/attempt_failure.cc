#include "manager/backends/attempt_failure.h"

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "src/lib/base/ascii.h"
#include "src/lib/base/relevant_line.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

/// Words by which programs explain a failure, in the C locale, and what callers are answered then.
struct Telling {
  std::string_view words;
  int code;
};
constexpr std::array kTelling = {
    Telling{"permission denied", EACCES},       Telling{"access denied", EACCES},  Telling{"mount error(13)", EACCES},
    Telling{"unknown filesystem type", ENODEV}, Telling{"no such device", ENODEV},
};

int code_of(const sys::Finished& finished) {
  for (const Telling& telling : kTelling) {
    if (contains_ignoring_case(finished.output, telling.words)) return telling.code;
  }
  return finished.status.signal == 0 && finished.status.code == EACCES ? EACCES : EHOSTDOWN;
}

}  // namespace

int caller_code(int code) noexcept {
  switch (code) {
    case EACCES:
    case ENODEV:
    case ETIMEDOUT:
    case ECANCELED:
      return code;
    case EMFILE:
    case ENFILE:
      return ENFILE;
    default:
      return EHOSTDOWN;
  }
}

Error too_late(std::string_view what, const ShareSpec& spec) {
  return Error(ETIMEDOUT, std::string(what) + " in time (mount_timeout is " +
                              format_duration(spec.policy().mount_timeout) + "); does its server answer?");
}

AttemptFailure failed_step(const Error& cause, std::vector<std::string> command) {
  std::string story = cause.message();
  if (cause.code() == EMFILE) {
    story += "; start berth with a higher limit of open files (ulimit -n, systemd: LimitNOFILE=, at most fs.nr_open)";
  }
  return {Error(caller_code(cause.code()), story), std::move(command), "", story};
}

AttemptFailure failed_program(std::vector<std::string> command, const sys::Finished& finished) {
  std::string exit = sys::to_string(finished.status);
  std::string story = command.front() + ": " + exit;
  if (!finished.output.empty()) story.append(": ").append(quote(relevant_line(finished.output)));
  return {Error(code_of(finished), std::move(story)), std::move(command), std::move(exit), finished.output};
}

AttemptFailure join_failures(std::vector<SourceFailure> failures) {
  if (failures.size() == 1) return std::move(failures.front().failure);
  std::string story;
  std::string output;
  bool alike = true;
  for (const SourceFailure& failed : failures) {
    story.append(story.empty() ? "" : "; ")
        .append(quote(failed.source))
        .append(": ")
        .append(failed.failure.error.story());
    output.append(quote(failed.source)).append(": ").append(failed.failure.output);
    if (output.back() != '\n') output.push_back('\n');
    alike = alike && failed.failure.error.code() == failures.front().failure.error.code();
  }
  AttemptFailure& last = failures.back().failure;
  const int code = alike ? last.error.code() : EHOSTDOWN;
  return {Error(code, std::move(story)), std::move(last.command), std::move(last.exit), std::move(output)};
}

}  // namespace berth::manager
