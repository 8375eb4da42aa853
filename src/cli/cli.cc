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
#include "src/lib/base/told.h"

namespace berth::cli {

namespace {

constexpr const char* kNameOne = "name one with --config FILE, or make it, see berth.toml(5)";

int say_none(const std::string& command, const Error& error, const World& world) {
  world.err("berth: " + command + ": " + told(error) + "\n");
  return kConfiguration;
}

/// Whether there is such a file, or this user may not even know.
bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0 || errno == EACCES; }

/// The configuration that was named, or the default one. `advice`: how to name one. Errors: ENOENT with a story.
Result<std::string> configuration_file(const std::string& named, const char* advice, const World& world) {
  if (!named.empty()) return named;
  if (exists(world.default_config)) return world.default_config;
  return fail(ENOENT, "there is no configuration " + quote(world.default_config) + "; " + advice +
                          (world.host_config.empty() ? "" : "; " + quote(world.host_config) + " is for root (sudo)"));
}

/// Runs what works on a configuration, with the one that was named or the default one. `advice`: how to name one.
template <typename Options, typename Run>
int run_with_configuration(const Command& command, Options options, const char* advice, const World& world, Run run) {
  Result<std::string> file = configuration_file(options.config, advice, world);
  if (!file) return say_none(command.name, file.error(), world);
  options.config = *std::move(file);
  return run(options);
}

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
  if (options.config.empty() && options.shares.empty()) options.config = TRY(configuration_file("", advice, world));
  if (options.config.empty() && options.namespace_directory.empty()) {
    return fail(ENOENT, "nothing says where to show the shares; name an empty directory with --namespace DIR");
  }
  return options;
}

int run_serve(const ServeOptions& asked, const World& world, const Programs& programs) {
  const Result<ServeOptions> options =
      complete(asked, "name one with --config FILE, or a directory with --share NAME=DIR", world);
  return options ? programs.serve(*options) : say_none("serve", options.error(), world);
}

int run_mount_helper(const std::vector<std::string>& arguments, const World& world, const Programs& programs) {
  const auto request = parse_mount_request(arguments);
  if (!request) return say(request.error(), world);
  const auto failed = [&world](const Error& error) {
    world.err("mount.berth: " + told(error) + "\n");
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

/// Says why a file was not written or deleted.
int refuse_change(const std::string& subject, const Error& error, const World& world) {
  const int code = error.code();
  std::string text = told(error);
  // What is wrong with the configuration is a list, one mistake a line; of the others some say all, and some want the
  // errno.
  if (code == EINVAL && !error.story().empty()) {
    text = "nothing is changed, for this would be wrong:\n" + text;
  } else if (code != EEXIST && code != EBUSY && code != ENXIO && code != ENAMETOOLONG) {
    text = error.message();
  }
  if (code == EACCES || code == EPERM) text.append("; try it as root (sudo)");
  world.err(subject + text + "\n");
  if (code == EINVAL || code == ENOENT) return kConfiguration;
  return code == EACCES || code == EPERM ? kNoPermission : kFailed;
}

/// Has the namespace read a file that was written or deleted; what it refuses is undone, so that it is not in the way
/// later.
int run_change(const Command& command, const std::string& share, const Result<ChangedFile>& changed, const char* done,
               const World& world) {
  const std::string subject = "berth: " + command.name + ": " + quote_command({share}) + ": ";
  if (!changed) return refuse_change(subject, changed.error(), world);
  world.out(done + changed->path + "\n");
  for (const std::string& warning : changed->warnings) world.err(warning + "\n");
  const std::string& wanted =
      command.namespace_directory.empty() ? changed->namespace_directory : command.namespace_directory;
  const Result<std::string> directory = locate_namespace(wanted, world);
  if (!directory) {
    const bool is_absent = !wanted.empty() && directory.error().code() == ENXIO;
    world.err(subject + (is_absent ? "no berth serves " + quote(wanted) : told(directory.error())) +
              "; this is in force at its next start\n");
    return kOk;
  }
  const Command reload{command.name, *directory, command.config,
                       HostCommand{formats::HostCommand::kReload, std::nullopt}};
  std::string told;
  World listening = world;
  listening.out = [&told](std::string_view text) { return told.append(text), true; };
  const int exit_code = act(reload, Tree(*directory), listening);
  // Of reloads at the same time one has read the files of all.
  constexpr std::string_view kNothing = "nothing has changed\n";
  if (told.starts_with(kNothing)) told.replace(0, kNothing.size(), "in force already, by another reload\n");
  world.out(told);
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
    world.err("berth: import: " + told(imported.error()) + "\n");
    return imported.error().code() == EACCES ? kNoPermission : kConfiguration;
  }
  world.out(imported->text);
  if (imported->faults > 0 || imported->shares == 0) {
    std::string text = "berth: import: " + prose(options.file) + ": " + std::to_string(imported->shares) +
                       (imported->shares == 1 ? " share" : " shares");
    if (imported->faults > 0)
      text.append("; not carried over: ").append(std::to_string(imported->faults)).append(", see the comments");
    world.err(text + "\n");
  }
  return kOk;
}

/// Of locate_namespace().
int exit_code_of(const Error& error) {
  if (error.code() == EACCES) return kNoPermission;
  return error.code() == ENXIO ? kUnavailable : kFailed;
}

int run_command(const Command& command, const World& world, const Programs& programs) {
  if (const auto* serve = std::get_if<ServeOptions>(&command.action)) return run_serve(*serve, world, programs);
  if (const auto* check = std::get_if<CheckOptions>(&command.action)) {
    return run_with_configuration(command, *check, "name one, or make it, see berth.toml(5)", world, programs.check);
  }
  if (const auto* doctor = std::get_if<DoctorOptions>(&command.action))
    return programs.doctor({doctor->config.empty() ? world.default_config : doctor->config, doctor->json});
  if (const auto* add = std::get_if<AddOptions>(&command.action)) {
    return run_with_configuration(command, *add, kNameOne, world, [&](const AddOptions& options) {
      return run_change(command, options.name, programs.add(options), "wrote ", world);
    });
  }
  if (const auto* remove = std::get_if<RemoveOptions>(&command.action)) {
    return run_with_configuration(command, *remove, kNameOne, world, [&](const RemoveOptions& options) {
      return run_change(command, options.name, programs.remove(options), "deleted ", world);
    });
  }
  if (const auto* import = std::get_if<ImportOptions>(&command.action)) return run_import(*import, world, programs);
  std::string wanted = command.namespace_directory;
  if (wanted.empty() && !command.config.empty()) {
    Result<std::string> named = programs.namespace_in(command.config);
    if (!named) {
      world.err("berth: " + command.name + ": " + told(named.error()) + "\n");
      return kConfiguration;
    }
    wanted = *std::move(named);
  }
  const auto* const program = std::get_if<ExecCommand>(&command.action);
  const Result<std::string> directory =
      locate_namespace(wanted, world, program != nullptr ? Purpose::kProgram : Purpose::kTalk);
  if (!directory) {
    if (directory.error().code() == ENXIO) note_absence(command, world);
    // A configuration that names another namespace than the one that is served is in force at the next start.
    const bool is_configured = command.namespace_directory.empty() && !wanted.empty();
    world.err("berth: " + command.name + ": " + told(directory.error()) +
              (is_configured ? "; where the configuration named another one before, restart berth" : "") + "\n");
    return exit_code_of(directory.error());
  }
  if (program != nullptr) return run_program(*program, world);
  return act(command, Tree(*directory), world);
}

}  // namespace

int run(const std::vector<std::string>& arguments, const World& world, const Programs& programs) {
  const std::string program = arguments.empty() ? "berth" : arguments.front().substr(arguments.front().rfind('/') + 1);
  const std::vector<std::string> rest(arguments.empty() ? arguments.end() : arguments.begin() + 1, arguments.end());
  if (program == "mount.berth" || program == "mount.fuse.berth") return run_mount_helper(rest, world, programs);
  const auto command = parse(rest);
  const int exit_code = command ? run_command(*command, world, programs) : say(command.error(), world);
  const int failure = *world.out_failure;
  // A reader that has gone wants no more.
  if (failure == 0 || failure == EPIPE) return exit_code;
  world.err("berth: standard output: " + errno_text(failure) + "\n");
  return exit_code == kOk ? kFailed : exit_code;
}

}  // namespace berth::cli
