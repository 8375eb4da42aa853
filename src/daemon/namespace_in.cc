#include <cerrno>
#include <string>

#include "src/daemon/serve.h"
#include "src/lib/base/told.h"

namespace berth::daemon {

Result<std::string> namespace_in(const std::string& file) {
  const Result<config::Configuration> configuration = config::load(file);
  if (!configuration) return fail(EINVAL, told(configuration.error()));
  if (configuration->settings.namespace_directory.empty()) return fail(EINVAL, file + " names no namespace");
  return configuration->settings.namespace_directory;
}

}  // namespace berth::daemon
