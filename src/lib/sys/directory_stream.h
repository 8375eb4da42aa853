#pragma once

#include <dirent.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "src/lib/base/result.h"

namespace berth::sys {

/// Reads a real directory entry by entry, from any position that the real file system named before.
///
/// Threading: one thread at a time.
class DirectoryStream {
 public:
  struct Item {
    ino_t inode;
    unsigned char type;  ///< DT_*
    const char* name;    ///< valid until the next call
    off_t next;          ///< the position after it, as the real file system counts
  };

  /// Goes to `position` (0: the start, read afresh) of the directory open as `fd`. Costs nothing where reading has come
  /// to or has been not long ago.
  Result<> seek(int fd, off_t position) noexcept;
  /// The next entry, null at the end. It stays the next one until skip().
  Result<const Item*> peek(int fd) noexcept;
  void skip() noexcept;

 private:
  static constexpr std::size_t kBufferSize = 32768;

  std::unique_ptr<char[]> buffer_;  ///< null: nothing read yet, or at the end
  std::size_t begin_ = 0, end_ = 0;
  off_t position_ = 0;      ///< of the entry at begin_
  off_t buffer_start_ = 0;  ///< of the first entry in the buffer
  Item item_{};
};

}  // namespace berth::sys
