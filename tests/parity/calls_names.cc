#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "tests/parity/hand.h"

// Calls that make, move and remove names.
namespace berth::test {
namespace {

std::string perform_mkdir(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return result(::mkdirat(at.directory, at.name(), static_cast<mode_t>(op.n[0])));
}

void invent_mkdir(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = random.one_in(2) ? 0777 : invent_mode(random);
}

std::string perform_mknod(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return result(::mknodat(at.directory, at.name(), static_cast<mode_t>(op.n[0]), static_cast<dev_t>(op.n[1])));
}

void invent_mknod(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = invent_mode(random) | random.of({0, S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK});
  op.n[1] = static_cast<long>(random.of({makedev(0, 0), makedev(1, 3), makedev(240, 70'000)}));
}

std::string perform_symlink(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return result(::symlinkat(op.other.c_str(), at.directory, at.name()));
}

void invent_symlink(Random& random, Operation& op) {
  op.path = invent_path(random);
  switch (random.below(8)) {
    case 0:
      op.other = "../" + invent_name(random);
      break;
    case 1:
      op.other = std::string(static_cast<std::size_t>(random.of({1L, 59L, 60L, 61L, 255L, 4094L, 4095L, 4096L})), 't');
      break;
    case 2:
      op.other = random.of({"", ".", "..", "/dev/null", "/", "a/", "./b/."});
      break;
    default:
      op.other = invent_name(random);
      break;
  }
}

std::string perform_readlink(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  std::array<char, 5000> target;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by readlinkat
  const ssize_t size = ::readlinkat(at.directory, at.name(), target.data(), static_cast<std::size_t>(op.n[0]));
  return size < 0 ? result(size) : digest({target.data(), static_cast<std::size_t>(size)});
}

void invent_readlink(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = random.of({0L, 1L, 4096L, 5000L, 5000L});
}

std::string perform_link(Hand& hand, const Operation& op) {
  const Hand::At from = hand.beside(op.path), to = hand.at(op.other);
  return result(::linkat(from.directory, from.name(), to.directory, to.name(), static_cast<int>(op.n[0])));
}

void invent_link(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.other = invent_path(random);
  op.n[0] = random.of({0, 0, AT_SYMLINK_FOLLOW});
}

std::string perform_rename(Hand& hand, const Operation& op) {
  const Hand::At from = hand.beside(op.path), to = hand.at(op.other);
  return result(::renameat2(from.directory, from.name(), to.directory, to.name(), static_cast<unsigned>(op.n[0])));
}

void invent_rename(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.other = invent_path(random);
  op.n[0] = random.of<unsigned>(
      {0U, 0U, 0U, 0U, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE | RENAME_NOREPLACE, 0x80U});
}

std::string perform_unlink(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return result(::unlinkat(at.directory, at.name(), static_cast<int>(op.n[0])));
}

void invent_unlink(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = 0;
}

void invent_rmdir(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = AT_REMOVEDIR;
}

constexpr Call kCalls[] = {
    {"mkdir", 22, &perform_mkdir, &invent_mkdir, Call::Stamps::kCoarseOnTmpfs},
    {"mknod", 10, &perform_mknod, &invent_mknod, Call::Stamps::kCoarseOnTmpfs},
    {"symlink", 12, &perform_symlink, &invent_symlink, Call::Stamps::kCoarseOnTmpfs},
    {"readlink", 6, &perform_readlink, &invent_readlink, Call::Stamps::kCoarse},
    {"link", 14, &perform_link, &invent_link, Call::Stamps::kCoarseOnTmpfs},
    {"rename", 20, &perform_rename, &invent_rename, Call::Stamps::kCoarseOnTmpfs},
    {"unlink", 12, &perform_unlink, &invent_unlink, Call::Stamps::kCoarseOnTmpfs},
    {"rmdir", 8, &perform_unlink, &invent_rmdir, Call::Stamps::kCoarseOnTmpfs},
};

}  // namespace

std::span<const Call> name_calls() { return kCalls; }

}  // namespace berth::test
