#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "src/cli/options.h"
#include "src/lib/formats/control_command.h"

namespace berth::cli {

struct StatusCommand {
  std::optional<std::string> share;  ///< absent: all
  bool json = false;
  bool failed = false;        ///< those alone that have failed or do not answer
  bool watch = false;         ///< again and again
  std::string sort = "name";  ///< "name", "state", "users", "since"
};
struct TopCommand {
  std::string sort = "name";  ///< as StatusCommand::sort
};
struct AttachCommand {
  std::string share, instance, volume;
};
struct DetachCommand {
  std::string share, instance, volume;
};
/// mount, unmount, retry: a word for a share's control file.
struct ControlCommand {
  std::string share;
  formats::ControlCommand word{};
};
/// drain, resume: a word for the host.
struct HostCommand {
  formats::HostCommand word{};
  std::optional<std::chrono::milliseconds> timeout;  ///< absent: however long it takes
};
struct EventsCommand {
  bool follow = false;
  bool json = false;
};
/// exec, shell: a program where the namespace is seen.
struct ExecCommand {
  std::vector<std::string> arguments;  ///< its name first; empty: the user's shell
};

struct MetricsCommand {
  std::string textfile;  ///< absolute: what node exporter reads; empty: to standard output
};

/// A command line that was understood.
struct Command {
  std::string name;                 ///< as the user typed it: "attach"
  std::string namespace_directory;  ///< --namespace; empty: to be found. ServeOptions have their own.
  std::string config;               ///< --config, absolute: it names the namespace, where --namespace does not
  std::variant<ServeOptions, CheckOptions, DoctorOptions, StatusCommand, TopCommand, AttachCommand, DetachCommand,
               ControlCommand, HostCommand, EventsCommand, MetricsCommand, AddOptions, RemoveOptions, ImportOptions,
               ExecCommand>
      action;
};

/// A command line without a command to execute: help or version was asked for, or it was not understood.
struct NoCommand {
  int exit_code = 0;
  std::string text;  ///< for standard output when exit_code is 0, else for standard error
};

}  // namespace berth::cli
