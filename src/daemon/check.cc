#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/daemon/serve.h"
#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"

namespace berth::daemon {
namespace {

/// Files with secrets of programs that every user may read. They are looked at here alone: one may be on a server that does not answer.
void warn_of_open_files(const manager::Catalog& catalog) {
  std::set<std::string> told;
  for (const auto& [name, share] : catalog.shares()) {
    std::vector<std::string> files = secret_files_in(share.options());
    if (!share.environment_file().empty()) files.push_back(share.environment_file());
    for (const auto* argv : {&share.mount_command(), &share.unmount_command(), &share.environment()}) {
      for (std::string& file : secret_files_in(*argv)) files.push_back(std::move(file));
    }
    for (const std::string& file : files) {
      struct stat attributes {};
      if (::stat(file.c_str(), &attributes) != 0 || (attributes.st_mode & S_IROTH) == 0) continue;
      if (!told.insert(file).second) continue;
      std::fprintf(
          stderr,
          "warning: %s: every user may read it, and share %s has secrets in it; take that right away (chmod o-r)\n",
          quote(file).c_str(), quote(name).c_str());
    }
  }
}

}  // namespace

int check(const std::string& file) {
  const Result<config::Configuration> configuration = config::load(file);
  if (!configuration) {
    std::fprintf(stderr, "%s\n",
                 configuration.error().story().empty() ? configuration.error().message().c_str()
                                                       : std::string(configuration.error().story()).c_str());
    return kExitConfiguration;
  }
  for (const std::string& warning : configuration->warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  warn_of_open_files(configuration->catalog);
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
