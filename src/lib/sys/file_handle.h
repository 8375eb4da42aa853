#pragma once

#include <string>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// What a file system calls a file, whatever its names are. Source: name_to_handle_at(2).
struct FileHandle {
  int type = 0;
  std::string bytes;
};

/// Without following a symbolic link. Errors: EOPNOTSUPP where the file system has no handles.
Result<FileHandle> handle_of(int directory, const char* name);

/// Opens the file in the mount of `directory`, which must not be O_PATH. It takes CAP_DAC_READ_SEARCH.
/// Errors: ESTALE when it is gone. Source: open_by_handle_at(2).
Result<UniqueFd> open_by_handle(int directory, const FileHandle& handle, int flags);

}  // namespace berth::sys
