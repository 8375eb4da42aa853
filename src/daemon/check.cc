#include <cstdio>

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

}  // namespace berth::daemon
