#pragma once

#include <array>
#include <string>
#include <string_view>

#include "src/lib/base/unique_fd.h"
#include "tests/parity/operation.h"

namespace berth::test {

/// What a process works with on its side: its root, its working directory, what it has open.
///
/// Threading: one thread.
class Hand {
 public:
  /// Locks the process up in `root` (chroot(2)): neither ".." nor a symbolic link may lead a random call, made as root,
  /// to the machine itself.
  explicit Hand(const std::string& root);
  /// False: it is not locked up, and must not do anything.
  [[nodiscard]] bool ready() const noexcept { return ready_; }

  /// Where a path starts, and the rest of it.
  struct At {
    int directory;
    std::string path;
    [[nodiscard]] const char* name() const noexcept { return path.c_str(); }
  };
  /// Also makes `directory` the working directory of the process, for calls that take nothing but a path. Where the
  /// process may not go there, the call is made from the working directory that it has.
  [[nodiscard]] At at(const std::string& path) const;
  /// The same without changing the working directory of the process: for the second path of a call.
  [[nodiscard]] At beside(const std::string& path) const;

  /// -1 when the slot is empty.
  [[nodiscard]] int fd(int slot) const { return slots_.at(static_cast<std::size_t>(slot)).get(); }
  void put(int slot, int fd);
  /// What `slot` has open is a copy (dup(2)) of what `of` has.
  void note_copy(int slot, int of);
  /// Whether this is root, and the file has got set-id bits since it was opened here: writing then takes them away
  /// through FUSE, and nowhere else.
  [[nodiscard]] bool ends_bits_by_writing(int slot) const;
  /// The answer of close(2).
  int close(int slot);
  [[nodiscard]] long go_to(const std::string& path);
  /// What a slot has open as a path below proc(): "7".
  [[nodiscard]] std::string number(int slot) const { return std::to_string(fd(slot)); }
  /// /proc/self/fd of the process.
  [[nodiscard]] int proc() const noexcept { return proc_.get(); }

 private:
  UniqueFd proc_;
  UniqueFd root_;
  UniqueFd cwd_;
  std::array<UniqueFd, kSlots> slots_;
  std::array<bool, kSlots> had_bits_{};  ///< when it was opened
  bool ready_ = false;
};

/// The result of a system call: a number, or the name of the error.
std::string result(long value);
/// The same for a call that answers a descriptor, which is put into the slot.
std::string opened(Hand& hand, int slot, int fd);
/// A few words on bytes: how many, and their hash.
std::string digest(std::string_view bytes);
/// `size` bytes that differ by `seed`.
std::string pattern(long size, long seed);

}  // namespace berth::test
