#include "src/cli/world.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "src/lib/formats/names.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/user_directories.h"

namespace berth::cli {

World real_world() {
  World world;
  world.environment = [](const char* name) -> std::optional<std::string> {
    const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): no thread sets one
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  };
  world.out = [failure = world.out_failure](std::string_view text) {
    const Result<> written = sys::write_all(STDOUT_FILENO, text);
    if (!written) *failure = written.error().code();
    return written.has_value();
  };
  world.err = [](std::string_view text) { static_cast<void>(sys::write_all(STDERR_FILENO, text)); };
  world.out_is_terminal = ::isatty(STDOUT_FILENO) == 1;
  world.err_is_terminal = ::isatty(STDERR_FILENO) == 1;
  winsize size{};
  if (world.out_is_terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    world.width = size.ws_col;
  world.mount_table = [] { return sys::read_mount_table(); };
  world.own_namespaces = [] { return sys::find_own_mounts(formats::kMountType); };
  const auto has_entered = std::make_shared<bool>(false);
  world.enter = [has_entered](const sys::OwnMount& mount) -> Result<> {
    TRY_VOID(sys::enter_namespaces_of(mount.process));
    *has_entered = true;
    return {};
  };
  world.execute = [has_entered, user = ::geteuid(), group = ::getegid()](const std::vector<std::string>& arguments) {
    if (*has_entered) {
      if (const Result<> shown = sys::show_ids(user, group); !shown) return shown.error();
    }
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execvp(argv.front(), argv.data());
    return Error::last();
  };
  const std::string host_config = world.default_config;
  world.default_config = sys::default_configuration_file();
  if (world.default_config != host_config) world.host_config = host_config;
  return world;
}

}  // namespace berth::cli
