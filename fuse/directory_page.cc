#include "fuse/directory_page.h"

#include <algorithm>

#include "fuse/scratch.h"

namespace berth::fuse {
namespace {

/// The kernel asks for what its caller's buffer holds; nothing is gained beyond this.
constexpr std::size_t kMostBytes = std::size_t{1} << 20;

constexpr mode_t mode_of(unsigned char type) noexcept { return static_cast<mode_t>(type) << 12; }  // DTTOIF (dirent.h)

}  // namespace

DirectoryPage::DirectoryPage(const Reply& reply, std::size_t size)
    : request_(reply.request()), buffer_(scratch(std::min(size, kMostBytes))) {}

bool DirectoryPage::add(const char* name, ino_t inode, unsigned char type, off_t next) {
  struct stat attributes {};
  attributes.st_ino = inode;
  attributes.st_mode = mode_of(type);
  const std::size_t room = buffer_.size() - used_;
  const std::size_t needed = fuse_add_direntry(request_, buffer_.data() + used_, room, name, &attributes, next);
  if (needed > room) return false;
  used_ += needed;
  return true;
}

bool DirectoryPage::fits_plus(const char* name) const {
  return fuse_add_direntry_plus(request_, nullptr, 0, name, nullptr, 0) <= buffer_.size() - used_;
}

void DirectoryPage::add_plus(const char* name, const Entry& entry, off_t next) {
  fuse_entry_param param{};
  param.ino = entry.node;
  param.generation = entry.generation;
  param.attr = entry.attributes;
  param.attr_timeout = entry.attributes_valid;
  param.entry_timeout = entry.entry_valid;
  used_ += fuse_add_direntry_plus(request_, buffer_.data() + used_, buffer_.size() - used_, name, &param, next);
}

bool DirectoryPage::add_plain(const char* name, ino_t inode, unsigned char type, off_t next) {
  if (!fits_plus(name)) return false;
  Entry entry;  // no node: the kernel takes the name and type alone
  entry.attributes.st_ino = inode;
  entry.attributes.st_mode = mode_of(type);
  add_plus(name, entry, next);
  return true;
}

}  // namespace berth::fuse
