#include "src/cli/world.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "src/lib/formats/names.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/user_directories.h"

namespace berth::cli {

namespace {

/// Absent: the terminal does not know them.
std::optional<std::size_t> columns_of(int terminal) {
  winsize size{};
  if (::ioctl(terminal, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return std::nullopt;
  return size.ws_col;
}

}  // namespace

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
  if (world.out_is_terminal) world.width = columns_of(STDOUT_FILENO);
  if (world.err_is_terminal) world.err_width = columns_of(STDERR_FILENO);
  world.user = ::geteuid();
  world.mount_table = [] { return sys::read_mount_table(); };
  world.own_namespaces = [] { return sys::find_own_mounts(formats::kMountType); };
  const auto entered = std::make_shared<std::string>();
  world.enter = [entered](const sys::OwnMount& mount) -> Result<> {
    TRY_VOID(sys::enter_namespaces_of(mount.process));
    *entered = mount.target;
    return {};
  };
  world.execute = [entered, user = world.user, group = ::getegid()](const std::vector<std::string>& arguments) {
    if (!entered->empty()) {
      if (const Result<> shown = sys::show_ids(user, group); !shown) return shown.error();
      // There, root's namespaces are seen too, and all file systems are of user 0.
      ::setenv("BERTH_NAMESPACE", entered->c_str(), 1);  // NOLINT(concurrency-mt-unsafe): there is one thread
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
