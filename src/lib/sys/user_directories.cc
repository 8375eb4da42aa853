#include "src/lib/sys/user_directories.h"

#include <unistd.h>

#include <cstdlib>

#include "src/lib/sys/user_namespace.h"

namespace berth::sys {
namespace {

bool is_ordinary_user() { return ::geteuid() != 0 || is_own_root(); }

/// Absolute, or empty: the specification wants a relative path to be ignored.
std::string variable(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): no thread sets one
  return value != nullptr && *value == '/' ? value : "";
}

/// `name`: a variable of the specification; `below_home`: what it is where that is not set.
std::string directory(const char* name, const char* below_home) {
  const std::string set = variable(name);
  return set.empty() ? variable("HOME") + below_home : set;
}

}  // namespace

std::string default_configuration_file() {
  return (is_ordinary_user() ? directory("XDG_CONFIG_HOME", "/.config") : "/etc") + "/berth/berth.toml";
}

std::string default_state_directory() {
  return (is_ordinary_user() ? directory("XDG_STATE_HOME", "/.local/state") : "/var/lib") + "/berth";
}

std::string default_run_directory() {
  if (!is_ordinary_user()) return "/run/berth";
  const std::string set = variable("XDG_RUNTIME_DIR");
  return set.empty() ? "/tmp/berth-" + std::to_string(::geteuid() != 0 ? ::geteuid() : outer_user()) : set + "/berth";
}

}  // namespace berth::sys
