#include "src/cli/cli.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "src/cli/actions.h"
#include "src/cli/exit_code.h"
#include "src/cli/locate.h"
#include "src/cli/mount_helper.h"
#include "src/cli/parse.h"
#include "src/lib/base/text.h"

namespace berth::cli {

namespace {

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

int say(const NoCommand& none, const World& world) {
  if (none.exit_code == kOk) {
    world.out(none.text);
  } else {
    world.err(none.text);
  }
  return none.exit_code;
}

/// Fills in the options that were not given. `advice`: how to give an option that has no default.
/// Errors: ENOENT with a story when there is nothing to serve.
Result<ServeOptions> complete(ServeOptions options, const char* advice, const World& world) {
  if (options.config.empty() && options.shares.empty()) {
    if (!exists(world.default_config)) {
      return fail(ENOENT, "there is no configuration " + quote(world.default_config) + "; " + advice);
    }
    options.config = world.default_config;
  }
  if (options.config.empty() && options.namespace_directory.empty()) {
    return fail(ENOENT, "nothing says where to show the shares; name an empty directory with --namespace DIR");
  }
  return options;
}

int run_serve(const ServeOptions& asked, const World& world, const Programs& programs) {
  const Result<ServeOptions> options =
      complete(asked, "name one with --config FILE, or a directory with --share NAME=DIR", world);
  if (options) return programs.serve(*options);
  world.err("berth: serve: " + std::string(options.error().story()) + "\n");
  return kConfiguration;
}

int run_check(CheckOptions options, const World& world, const Programs& programs) {
  if (options.config.empty()) options.config = world.default_config;
  return programs.check(options);
}

int run_mount_helper(const std::vector<std::string>& arguments, const World& world, const Programs& programs) {
  const auto request = parse_mount_request(arguments);
  if (!request) return say(request.error(), world);
  const auto failed = [&world](const Error& error) {
    world.err("mount.berth: " + (error.story().empty() ? error.message() : std::string(error.story())) + "\n");
    return kMountFailed;
  };
  const bool wants_complete = !request->remount || request->says_how;
  const Result<ServeOptions> options =
      wants_complete
          ? complete(request->serve, "name one with -o config=FILE, or a directory with -o share=NAME=DIR", world)
          : request->serve;
  if (!options) return failed(options.error());
  if (request->remount) {
    const Result<> done = remount(*request, *options, world);
    return done ? kMountOk : failed(done.error());
  }
  if (request->fake) return kMountOk;
  return programs.serve(*options) == kOk ? kMountOk : kMountFailed;
}

/// Has the namespace read a file that was written or deleted; what it refuses is undone, so that it is not in the way later.
int run_change(const Command& command, const std::string& share, const Result<ChangedFile>& changed, const char* done,
               const World& world) {
  const std::string subject = "berth: " + command.name + ": " + quote_command({share}) + ": ";
  if (!changed) {
    const Error& error = changed.error();
    world.err(subject + error.message() + "\n");
    if (error.code() == EINVAL || error.code() == ENOENT) return kConfiguration;
    return error.code() == EACCES ? kNoPermission : kFailed;
  }
  world.out(done + changed->path + "\n");
  const std::string& wanted =
      command.namespace_directory.empty() ? changed->namespace_directory : command.namespace_directory;
  const Result<std::string> directory = locate_namespace(wanted, world);
  if (!directory) {
    world.err(subject + "it is so at the next start of berth: " + std::string(directory.error().story()) + "\n");
    return kOk;
  }
  const Command reload{command.name, *directory, command.config,
                       HostCommand{formats::HostCommand::kReload, std::nullopt}};
  const int exit_code = act(reload, Tree(*directory), world);
  if (exit_code == kOk || exit_code == kUnavailable) return exit_code;
  const Result<> undone = changed->undo();
  world.err(subject + (undone ? "undone" : "cannot be undone: " + undone.error().message()) + "\n");
  return exit_code;
}

int run_program(const ExecCommand& program, const World& world) {
  std::vector<std::string> arguments = program.arguments;
  if (arguments.empty()) arguments.push_back(world.environment("SHELL").value_or("/bin/sh"));
  const Error error = world.execute(arguments);
  world.err("berth: exec: " + quote_command({arguments.front()}) + ": " + error.message() + "\n");
  return error.code() == ENOENT ? kNoProgram : kCannotExecute;
}

int run_import(const ImportOptions& options, const World& world, const Programs& programs) {
  const Result<Imported> imported = programs.import_autofs(options);
  if (!imported) {
    world.err("berth: import: " + std::string(imported.error().story()) + "\n");
    return imported.error().code() == EACCES ? kNoPermission : kConfiguration;
  }
  world.out(imported->text);
  if (imported->faults > 0) {
    world.err("berth: import: " + prose(options.file) + ": " + std::to_string(imported->shares) +
              " shares; not carried over: " + std::to_string(imported->faults) + ", see the comments\n");
  }
  return kOk;
}

int run_command(const Command& command, const World& world, const Programs& programs) {
  if (const auto* serve = std::get_if<ServeOptions>(&command.action)) return run_serve(*serve, world, programs);
  if (const auto* check = std::get_if<CheckOptions>(&command.action)) return run_check(*check, world, programs);
  if (const auto* doctor = std::get_if<DoctorOptions>(&command.action))
    return programs.doctor({doctor->config.empty() ? world.default_config : doctor->config, doctor->json});
  if (const auto* add = std::get_if<AddOptions>(&command.action)) {
    AddOptions options = *add;
    if (options.config.empty()) options.config = world.default_config;
    return run_change(command, options.name, programs.add(options), "wrote ", world);
  }
  if (const auto* remove = std::get_if<RemoveOptions>(&command.action)) {
    RemoveOptions options = *remove;
    if (options.config.empty()) options.config = world.default_config;
    return run_change(command, options.name, programs.remove(options), "deleted ", world);
  }
  if (const auto* import = std::get_if<ImportOptions>(&command.action)) return run_import(*import, world, programs);
  std::string wanted = command.namespace_directory;
  if (wanted.empty() && !command.config.empty()) {
    Result<std::string> named = programs.namespace_in(command.config);
    if (!named) {
      world.err("berth: " + command.name + ": " + std::string(named.error().story()) + "\n");
      return kConfiguration;
    }
    wanted = *std::move(named);
  }
  const Result<std::string> directory = locate_namespace(wanted, world);
  if (!directory) {
    note_absence(command, world);
    world.err("berth: " + command.name + ": " + std::string(directory.error().story()) + "\n");
    return directory.error().code() == EACCES ? kNoPermission : kUnavailable;
  }
  if (const auto* program = std::get_if<ExecCommand>(&command.action)) return run_program(*program, world);
  return act(command, Tree(*directory), world);
}

}  // namespace

int run(const std::vector<std::string>& arguments, const World& world, const Programs& programs) {
  const std::string program = arguments.empty() ? "berth" : arguments.front().substr(arguments.front().rfind('/') + 1);
  const std::vector<std::string> rest(arguments.empty() ? arguments.end() : arguments.begin() + 1, arguments.end());
  if (program == "mount.berth" || program == "mount.fuse.berth") return run_mount_helper(rest, world, programs);
  const auto command = parse(rest);
  return command ? run_command(*command, world, programs) : say(command.error(), world);
}

}  // namespace berth::cli
