#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "src/lib/base/result.h"

/// The files that a configuration is in.
namespace berth::config {

struct ConfigFile {
  std::string text;
  struct stat attributes {};
};

/// Reads a regular file of at most kMaxFileSize bytes.
/// Errors: open(2)'s, EISDIR, EINVAL (not a file), EFBIG; the story describes the problem without naming the file:
/// "cannot be read: Permission denied".
Result<ConfigFile> read_config_file(const std::string& path);

/// The paths of the drop-ins in `directory`: "*.toml", sorted bytewise, without hidden ones. None when it is not there.
/// Errors: as above, and E2BIG beyond kMaxDropIns.
Result<std::vector<std::string>> find_drop_ins(const std::string& directory);

/// Why a file that makes root run commands is unsafe: other users may change it. "" when it is safe.
std::string ownership_warning(const std::string& path, const struct stat& attributes);

/// A path for messages: as it is, unless it holds something that would break a line.
std::string shown_path(const std::string& path);

}  // namespace berth::config
