#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuse/session/reply.h"

namespace berth::fuse {

/// Entries as READDIR answers them, one after another, to be answered in parts.
class DirentList {
 public:
  /// As DirentBuffer::add(). Positions are counted from 0.
  void add(const char* name, ino_t inode, unsigned char type);
  /// A position that shows nothing.
  void add_nothing();
  /// Nothing more will be added.
  void shrink();
  /// What follows the position `from` and fits in `size` bytes; empty at the end.
  [[nodiscard]] std::span<const char> page(std::size_t from, std::size_t size) const;

 private:
  std::vector<char> bytes_;
  std::vector<std::uint32_t> ends_;  ///< of what each position shows, in bytes_
};

/// The answer to one READDIR or READDIRPLUS, filled entry by entry until it is full.
///
/// Threading: a thread has one at a time (thread_buffer()).
class DirentBuffer {
 public:
  /// `size`: most bytes that the kernel takes.
  DirentBuffer(const Reply& reply, std::size_t size);

  /// An entry with its type alone (DT_*). `next`: the position after it. False: full, nothing was added.
  bool add(const char* name, ino_t inode, unsigned char type, off_t next);

  /// Whether an entry with attributes still fits; to be asked before a look-up is counted for it.
  [[nodiscard]] bool fits_plus(const char* name) const;
  /// An entry with attributes.
  void add_plus(const char* name, const Entry& entry, off_t next);
  /// An entry of READDIRPLUS that holds no more than one of READDIR. False: full.
  bool add_plain(const char* name, ino_t inode, unsigned char type, off_t next);

  [[nodiscard]] std::span<const char> bytes() const noexcept { return buffer_.first(used_); }
  [[nodiscard]] bool empty() const noexcept { return used_ == 0; }

 private:
  fuse_req_t request_;
  std::span<char> buffer_;
  std::size_t used_ = 0;
};

}  // namespace berth::fuse
