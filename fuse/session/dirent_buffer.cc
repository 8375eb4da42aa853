#include "fuse/session/dirent_buffer.h"

#include <algorithm>
#include <iterator>

#include "fuse/session/thread_buffer.h"

namespace berth::fuse {
namespace {

/// The kernel asks for what its caller's buffer holds; nothing is gained beyond this.
constexpr std::size_t kMostBytes = std::size_t{1} << 20;

constexpr mode_t mode_of(unsigned char type) noexcept { return static_cast<mode_t>(type) << 12; }  // DTTOIF (dirent.h)

/// All that an entry without attributes holds.
struct stat number_and_type(ino_t inode, unsigned char type) noexcept {
  struct stat attributes {};
  attributes.st_ino = inode;
  attributes.st_mode = mode_of(type);
  return attributes;
}

}  // namespace

void DirentList::add(const char* name, ino_t inode, unsigned char type) {
  const struct stat attributes = number_and_type(inode, type);
  const auto next = static_cast<off_t>(ends_.size()) + 1;
  const std::size_t before = bytes_.size();
  const std::size_t size = fuse_add_direntry(nullptr, nullptr, 0, name, nullptr, 0);
  bytes_.resize(before + size);
  fuse_add_direntry(nullptr, bytes_.data() + before, size, name, &attributes, next);
  add_nothing();
}

void DirentList::add_nothing() { ends_.push_back(static_cast<std::uint32_t>(bytes_.size())); }

void DirentList::shrink() {
  bytes_.shrink_to_fit();
  ends_.shrink_to_fit();
}

std::span<const char> DirentList::page(std::size_t from, std::size_t size) const {
  if (from >= ends_.size()) return {};
  const std::size_t begin = from == 0 ? 0 : ends_[from - 1];
  const auto beyond = std::upper_bound(ends_.begin(), ends_.end(), begin + std::min(size, kMostBytes));
  const std::size_t end = beyond == ends_.begin() ? begin : std::max<std::size_t>(begin, *std::prev(beyond));
  return std::span(bytes_).subspan(begin, end - begin);
}

DirentBuffer::DirentBuffer(const Reply& reply, std::size_t size)
    : request_(reply.request()), buffer_(thread_buffer(std::min(size, kMostBytes))) {}

bool DirentBuffer::add(const char* name, ino_t inode, unsigned char type, off_t next) {
  const struct stat attributes = number_and_type(inode, type);
  const std::size_t room = buffer_.size() - used_;
  const std::size_t needed = fuse_add_direntry(request_, buffer_.data() + used_, room, name, &attributes, next);
  if (needed > room) return false;
  used_ += needed;
  return true;
}

bool DirentBuffer::fits_plus(const char* name) const {
  return fuse_add_direntry_plus(request_, nullptr, 0, name, nullptr, 0) <= buffer_.size() - used_;
}

void DirentBuffer::add_plus(const char* name, const Entry& entry, off_t next) {
  const fuse_entry_param param = to_param(entry);
  used_ += fuse_add_direntry_plus(request_, buffer_.data() + used_, buffer_.size() - used_, name, &param, next);
}

bool DirentBuffer::add_plain(const char* name, ino_t inode, unsigned char type, off_t next) {
  if (!fits_plus(name)) return false;
  Entry entry;  // no node: the kernel takes the name and type alone
  entry.attributes = number_and_type(inode, type);
  add_plus(name, entry, next);
  return true;
}

}  // namespace berth::fuse
