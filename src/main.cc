#include <string>
#include <utility>
#include <vector>

#include "src/cli/cli.h"
#include "src/daemon/serve.h"
#include "src/doctor/doctor.h"

namespace {

using berth::log::Level;

Level level_of(const std::string& name) {
  if (name == "debug") return Level::kDebug;
  if (name == "warning") return Level::kWarning;
  if (name == "error") return Level::kError;
  return Level::kInfo;
}

int serve(const berth::cli::ServeOptions& asked) {
  berth::daemon::ServeOptions options;
  options.config = asked.config;
  options.command_line.namespace_directory = asked.namespace_directory;
  options.command_line.state_dir = asked.state_dir;
  for (const berth::cli::QuickShare& share : asked.shares) {
    options.command_line.quick_shares.push_back(share.name + "=" + share.directory);
  }
  options.log_level = level_of(asked.log_level);
  options.background = asked.background;
  return berth::daemon::serve(options);
}

int check(const berth::cli::CheckOptions& asked) {
  return berth::doctor::check({asked.config, asked.strict, asked.offline});
}

int doctor(const berth::cli::DoctorOptions& asked) { return berth::doctor::doctor({asked.config, asked.json}); }

berth::Result<berth::cli::ChangedFile> as_changed(berth::Result<berth::config::ChangedDropIn> change) {
  if (!change) return berth::fail(change.error());
  return berth::cli::ChangedFile{change->path, change->namespace_directory, berth::doctor::warnings_of(change->added),
                                 [change = *change] { return berth::config::undo(change); }};
}

berth::Result<berth::cli::ChangedFile> add_share(const berth::cli::AddOptions& asked) {
  return as_changed(berth::config::add_share(
      asked.config, {.namespace_directory = asked.namespace_directory, .state_dir = {}, .quick_shares = {}},
      {asked.name, asked.type, asked.sources, asked.options, asked.settings}));
}

berth::Result<berth::cli::ChangedFile> remove_share(const berth::cli::RemoveOptions& asked) {
  return as_changed(berth::config::remove_share(
      asked.config, {.namespace_directory = asked.namespace_directory, .state_dir = {}, .quick_shares = {}},
      asked.name));
}

berth::Result<berth::cli::Imported> import_autofs(const berth::cli::ImportOptions& asked) {
  berth::Result<berth::config::ImportedMaps> maps = berth::config::import_autofs(asked.file, asked.namespace_directory);
  if (!maps) return berth::fail(maps.error());
  return berth::cli::Imported{std::move(maps->text), maps->shares, maps->faults};
}

}  // namespace

int main(int argc, char** argv) {
  return berth::cli::run(std::vector<std::string>(argv, argv + argc), berth::cli::real_world(),
                         {serve, check, doctor, berth::daemon::namespace_in, add_share, remove_share, import_autofs});
}
