#include <cerrno>
#include <cstdio>
#include <string>

#include "src/daemon/serve.h"

namespace berth::daemon {

int check(const std::string& file) {
  const Result<config::Configuration> configuration = config::load(file);
  if (!configuration) {
    std::fprintf(stderr, "%s\n",
                 configuration.error().story().empty() ? configuration.error().message().c_str()
                                                       : std::string(configuration.error().story()).c_str());
    return kExitConfiguration;
  }
  for (const std::string& warning : configuration->warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  std::printf("%s: ok, %zu shares\n", file.c_str(), configuration->catalog.shares().size());
  return 0;
}

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
