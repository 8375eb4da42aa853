#include "manager/backends/look_up_program.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "manager/backends/attempt_failure.h"
#include "manager/backends/attempt_namespace.h"
#include "manager/backends/secret_files.h"
#include "manager/model/share_template.h"
#include "src/lib/base/relevant_line.h"
#include "src/lib/base/text.h"
#include "src/lib/base/told.h"
#include "src/lib/sys/process.h"

namespace berth::manager {
namespace {

bool is_blank(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; });
}

/// Runs it, and answers what it printed; nothing: there is no such key. A program that has not ended is killed: it has
/// nothing to clean up.
Result<std::optional<std::string>> run(const HostView& host, const LookUpQuestion& question) {
  std::vector<std::string> environment = TRY(program_environment(question.pattern));
  environment.insert(environment.end(), question.environment.begin(), question.environment.end());
  sys::Process process = TRY(sys::Process::start_question(question.argv, environment, host.questions));
  const Result<sys::ExitStatus> ended = process.wait(question.deadline, question.cancel_fd);
  if (!ended) {
    process.end(TimePoint::min());
    std::string story = question.argv.front() + " has not answered in time";
    if (const std::string said = process.output(); !said.empty()) {
      story.append(", and said ").append(quote(relevant_line(said)));
    }
    return fail(ended.error().code(), std::move(story));
  }
  if (ended->signal == 0 && ended->code == kNoSuchKey) return std::nullopt;
  if (!ended->success()) return fail(failed_program(question.argv, {*ended, process.output()}).error);
  std::string answer = TRY(process.answer());
  if (is_blank(answer)) return std::nullopt;
  return answer;
}

}  // namespace

Result<std::string> ask_program(const HostView& host, const LookUpQuestion& question) {
  Attempt attempt;
  attempt.berth = host.berths;
  attempt.deadline = question.deadline;
  attempt.cancel_fd = question.cancel_fd;
  attempt.programs = question.programs;
  Result<std::optional<std::string>> answer;
  {
    const Result<AttemptNamespace> entered = AttemptNamespace::enter(host, attempt, question.argv);
    answer = entered ? run(host, question) : fail(entered.error().within("cannot make a mount namespace"));
  }
  if (!answer) {
    const Error& error = answer.error();
    return fail(caller_code(error.code()), known_secrets(host, question.pattern).mask(told(error)));
  }
  if (!*answer) return fail(ENOENT);
  return *std::move(*answer);
}

namespace {

Result<std::vector<std::string>> list_directory(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  const std::filesystem::directory_iterator end;
  for (std::filesystem::directory_iterator entry(directory, error); !error && entry != end; entry.increment(error)) {
    if (entry->is_directory(error)) names.push_back(entry->path().filename());
    error.clear();
    if (names.size() > kMostKeys) break;
  }
  if (error) return fail(error.value(), quote(directory) + " cannot be listed");
  return names;
}

}  // namespace

Result<std::vector<std::string>> list_keys(const HostView& host, const LookUpQuestion& question) {
  std::vector<std::string> names;
  if (question.argv.empty()) {
    const std::string directory = browsed_directory(question.pattern.fields());
    names = TRY(in_host(host, [&directory] { return list_directory(directory); }));
  } else if (const Result<std::string> answer = ask_program(host, question)) {
    for (const std::string_view line : split(*answer, '\n')) names.emplace_back(line);
  } else if (answer.error().code() != ENOENT) {
    return fail(answer.error());
  }
  std::erase_if(names, [&](const std::string& name) { return !check_key_of(question.pattern, name); });
  if (names.size() > kMostKeys) return fail(EFBIG, "more than " + std::to_string(kMostKeys) + " names");
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace berth::manager
