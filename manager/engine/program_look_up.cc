#include "manager/engine/program_look_up.h"

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "manager/engine/template_values.h"

namespace berth::manager {
namespace {

/// Errors: those of the program; EHOSTDOWN with a story when it answers what is no share, for callers must not take that for absent.
Result<ShareSpec> ask(const ManagerSetup& setup, const LookUpQuestion& question) {
  const auto refuse = [&](const Error& why) {
    return fail(EHOSTDOWN, question.argv.front() + " has answered what is no share: " + std::string(why.story()));
  };
  if (!setup.ask_program) return fail(EHOSTDOWN, "programs are not asked here");
  ShareFields fields = TRY(setup.ask_program(question));
  fields.name = question.fields.name;
  Result<ShareSpec> spec = ShareSpec::make(std::move(fields), &question.pattern);
  if (!spec) return refuse(spec.error());
  if (!setup.backends.contains(spec->kind())) return refuse(Error(EINVAL, "its type is not served here"));
  return spec;
}

}  // namespace

ProgramLookUp look_up_by_program(const ManagerSetup& setup, LookUpQuestion question, uid_t user) {
  const Result<TemplateValues> values = values_for(question.pattern, question.key, user);
  if (!values) return {.spec = fail(values.error())};
  // What cannot be given to the program is no key that it knows.
  Result<std::vector<std::string>> argv = instantiate_program(question.pattern, *values);
  if (!argv) return {.spec = fail(ENOENT, argv.error().message())};
  Result<ShareFields> fields = instantiate_fields(question.pattern, *values);
  if (!fields) return {.spec = fail(ENOENT, fields.error().message())};
  question.argv = *std::move(argv);
  question.fields = *std::move(fields);
  if (question.pattern.type() == kMapType) question.environment = map_environment(user);
  Result<ShareSpec> spec = ask(setup, question);
  const bool has_failed = !spec && spec.error().code() != ENOENT;
  return {.spec = std::move(spec), .has_failed = has_failed};
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
