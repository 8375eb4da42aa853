#include <cerrno>
#include <string>

#include "src/daemon/serve.h"

namespace berth::daemon {

Result<std::string> namespace_in(const std::string& file) {
  const Result<config::Configuration> configuration = config::load(file);
  if (!configuration) {
    const Error& error = configuration.error();
    return fail(EINVAL, error.story().empty() ? error.message() : std::string(error.story()));
  }
  if (configuration->settings.namespace_directory.empty()) return fail(EINVAL, file + " names no namespace");
  return configuration->settings.namespace_directory;
}

}  // namespace berth::daemon
