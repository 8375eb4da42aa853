#include "src/lib/sys/directory_stream.h"

#include <unistd.h>

#include <cerrno>
#include <new>

namespace berth::sys {
namespace {

/// An entry in the buffer; getdents64(2) aligns them.
const dirent64* entry_at(const char* place) noexcept {
  return static_cast<const dirent64*>(static_cast<const void*>(place));
}

}  // namespace

Result<> DirectoryStream::seek(int fd, off_t position) noexcept {
  // The start is looked for even where nothing was read yet: others may have listed the directory since it was opened,
  // from the kernel's cache, and some file systems end a listing at what was there when it was opened (btrfs).
  if (position == position_ && position != 0) return {};
  // The kernel comes back to where the caller's own buffer was full.
  if (buffer_ != nullptr && position != 0) {
    off_t at = buffer_start_;
    for (std::size_t place = 0; place < end_; place += entry_at(&buffer_[place])->d_reclen) {
      if (at == position) {
        begin_ = place;
        position_ = position;
        return {};
      }
      at = entry_at(&buffer_[place])->d_off;
    }
  }
  if (::lseek(fd, position, SEEK_SET) < 0) return fail_errno();
  position_ = position;
  begin_ = end_ = 0;
  return {};
}

Result<const DirectoryStream::Item*> DirectoryStream::peek(int fd) noexcept {
  if (begin_ == end_) {
    if (buffer_ == nullptr) buffer_.reset(new (std::nothrow) char[kBufferSize]);
    if (buffer_ == nullptr) return fail(ENOMEM);
    const ssize_t size = ::getdents64(fd, buffer_.get(), kBufferSize);
    begin_ = end_ = 0;
    if (size < 0) return fail_errno();
    if (size == 0) {
      buffer_.reset();
      return nullptr;
    }
    end_ = static_cast<std::size_t>(size);
    buffer_start_ = position_;
  }
  const dirent64* entry = entry_at(&buffer_[begin_]);
  item_ = {entry->d_ino, entry->d_type, entry->d_name, entry->d_off};
  return &item_;
}

void DirectoryStream::skip() noexcept {
  const dirent64* entry = entry_at(&buffer_[begin_]);
  position_ = entry->d_off;
  begin_ += entry->d_reclen;
}

}  // namespace berth::sys
