#include "manager/engine/program_look_up.h"

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "manager/engine/template_values.h"

namespace berth::manager {
namespace {

/// Of several that one answer names, one that is wrong is left out, and noted.
/// Errors: EHOSTDOWN with a story when it answers what is no share, for callers must not take that for absent.
Result<std::vector<ShareSpec>> specs_of(const ManagerSetup& setup, const LookUpQuestion& question, LookUpAnswer answer,
                                        std::vector<std::string>& notes) {
  notes = std::move(answer.notes);
  std::vector<ShareSpec> specs;
  std::string fault = "it names none";
  for (ShareFields& fields : answer.shares) {
    Result<ShareSpec> spec = ShareSpec::make(std::move(fields), &question.pattern);
    if (spec && setup.backends.contains(spec->kind())) {
      specs.push_back(*std::move(spec));
      continue;
    }
    fault = spec ? "its type is not served here" : std::string(spec.error().story());
    if (answer.shares.size() > 1) notes.push_back("not carried over: " + fault);
  }
  if (specs.empty()) return fail(EHOSTDOWN, question.argv.front() + " has answered what is no share: " + fault);
  return specs;
}

}  // namespace

ProgramLookUp look_up_by_program(const ManagerSetup& setup, LookUpQuestion question, uid_t user) {
  const Result<TemplateValues> values = values_for(question.pattern, question.key, user);
  if (!values) return {.specs = fail(values.error())};
  // What cannot be given to the program is no key that it knows.
  Result<std::vector<std::string>> argv = instantiate_program(question.pattern, *values);
  if (!argv) return {.specs = fail(ENOENT, argv.error().message())};
  Result<ShareFields> fields = instantiate_fields(question.pattern, *values);
  if (!fields) return {.specs = fail(ENOENT, fields.error().message())};
  question.argv = *std::move(argv);
  question.fields = *std::move(fields);
  if (question.pattern.type() == kMapType) question.environment = map_environment(user);
  question.find_caller = [user] { return caller_values(user); };
  if (!setup.ask_program) return {.specs = fail(EHOSTDOWN, "programs are not asked here"), .has_failed = true};
  Result<LookUpAnswer> answer = setup.ask_program(question);
  if (answer && !answer->refused.empty()) return {.specs = fail(EACCES, std::move(answer->refused))};
  std::vector<std::string> notes;
  Result<std::vector<ShareSpec>> specs =
      answer ? specs_of(setup, question, *std::move(answer), notes) : fail(std::move(answer).error());
  const bool has_failed = !specs && specs.error().code() != ENOENT;
  return {.specs = std::move(specs), .has_failed = has_failed, .notes = std::move(notes)};
}

Result<std::vector<std::string>> list_by_source(const ManagerSetup& setup, LookUpQuestion question, uid_t user) {
  if (!setup.list_keys) return fail(EHOSTDOWN, "no names are listed here");
  if (!question.pattern.program().empty()) {
    TemplateValues values;
    add_host_values(values);
    question.argv = TRY(instantiate_listing(question.pattern, values));
    if (question.pattern.type() == kMapType) question.environment = map_environment(user);
  }
  return setup.list_keys(question);
}

}  // namespace berth::manager
