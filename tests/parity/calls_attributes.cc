#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "tests/parity/hand.h"

// Modes, owners, times, permissions and flags.
namespace berth::test {
namespace {

std::string perform_chmod(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  const auto mode = static_cast<mode_t>(op.n[0]);
  if (op.n[1] == 0) return result(::fchmodat(at.directory, at.name(), mode, 0));
#ifdef SYS_fchmodat2
  constexpr long kFchmodat2 = SYS_fchmodat2;
#else
  constexpr long kFchmodat2 = 452;  // Linux 6.6
#endif
  return result(::syscall(kFchmodat2, at.directory, at.name(), mode, op.n[1]));
}

void invent_chmod(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = invent_mode(random);
  op.n[1] = random.of({0, 0, 0, AT_SYMLINK_NOFOLLOW});
}

std::string perform_fchmod(Hand& hand, const Operation& op) {
  return result(::fchmod(hand.fd(op.slot), static_cast<mode_t>(op.n[0])));
}

std::string perform_chown(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return result(::fchownat(at.directory, at.name(), static_cast<uid_t>(op.n[0]), static_cast<gid_t>(op.n[1]),
                           static_cast<int>(op.n[2])));
}

std::string perform_fchown(Hand& hand, const Operation& op) {
  return result(::fchown(hand.fd(op.slot), static_cast<uid_t>(op.n[0]), static_cast<gid_t>(op.n[1])));
}

void invent_chown(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n = {invent_owner(random), invent_owner(random), random.of({0, AT_SYMLINK_NOFOLLOW, AT_SYMLINK_NOFOLLOW}), 0};
}

/// `code`: seconds, or one of the special values of utimensat(2), or nanoseconds that are none.
timespec time_of(long code) {
  switch (code) {
    case -1:
      return {.tv_sec = 0, .tv_nsec = UTIME_NOW};
    case -2:
      return {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
    case -3:
      return {.tv_sec = 0, .tv_nsec = 1'000'000'000};
    default:
      return {.tv_sec = code, .tv_nsec = code % 1'000'000'000 < 0 ? 0 : code % 1'000'000'000};
  }
}

std::string perform_utimes(Hand& hand, const Operation& op) {
  const timespec times[2] = {time_of(op.n[0]), time_of(op.n[1])};
  const Hand::At at = hand.at(op.path);
  return result(::utimensat(at.directory, at.name(), op.n[2] == -9 ? nullptr : times,
                            op.n[2] == -9 ? 0 : static_cast<int>(op.n[2])));
}

std::string perform_futimes(Hand& hand, const Operation& op) {
  const timespec times[2] = {time_of(op.n[0]), time_of(op.n[1])};
  return result(::futimens(hand.fd(op.slot), op.n[2] == -9 ? nullptr : times));
}

void invent_utimes(Random& random, Operation& op) {
  op.path = invent_path(random);
  for (const std::size_t i : {0U, 1U}) {
    op.n.at(i) = random.of({-1L, -1L, -2L, -2L, -3L, 0L, 1L, 1'000'000L, 900'000'001L});
  }
  op.n[2] = random.of({0, 0, AT_SYMLINK_NOFOLLOW, -9});
}

std::string perform_access(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return result(::syscall(SYS_faccessat2, at.directory, at.name(), op.n[0], op.n[1]));
}

void invent_access(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = random.of({F_OK, R_OK, W_OK, X_OK, R_OK | W_OK, R_OK | W_OK | X_OK, 8});
  op.n[1] = random.of({0, 0, AT_EACCESS, AT_SYMLINK_NOFOLLOW});
}

/// The flags of chattr(1).
std::string perform_get_flags(Hand& hand, const Operation& op) {
  int flags = 0;
  const int answer = ::ioctl(hand.fd(op.slot), FS_IOC_GETFLAGS, &flags);
  if (answer < 0) return result(answer);
  char text[32];
  std::snprintf(text, sizeof text, "flags %x", static_cast<unsigned>(flags));
  return text;
}

std::string perform_set_flags(Hand& hand, const Operation& op) {
  int flags = 0;
  if (::ioctl(hand.fd(op.slot), FS_IOC_GETFLAGS, &flags) != 0) return "get " + result(-1);
  flags ^= static_cast<int>(op.n[0]);
  return result(::ioctl(hand.fd(op.slot), FS_IOC_SETFLAGS, &flags));
}

void invent_set_flags(Random& random, Operation& op) {
  op.n[0] = random.of<long>(
      {FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NOATIME_FL, FS_NODUMP_FL, FS_SYNC_FL, FS_DIRSYNC_FL, FS_COMPR_FL});
}

std::string perform_fsxattr(Hand& hand, const Operation& op) {
  fsxattr x{};
  const int got = ::ioctl(hand.fd(op.slot), FS_IOC_FSGETXATTR, &x);
  if (got != 0) return "get " + result(got);
  if (op.n[0] == 0) {
    char text[96];
    std::snprintf(text, sizeof text, "xflags %x extent %u project %u", x.fsx_xflags, x.fsx_extsize, x.fsx_projid);
    return text;
  }
  x.fsx_xflags ^= static_cast<unsigned>(op.n[0]);
  return result(::ioctl(hand.fd(op.slot), FS_IOC_FSSETXATTR, &x));
}

void invent_fsxattr(Random& random, Operation& op) {
  op.n[0] = random.of<long>({0, 0, FS_XFLAG_NODUMP, FS_XFLAG_NOATIME, FS_XFLAG_APPEND});
}

/// `n[0]`: on or off. For tables, where the file is not open.
std::string perform_chattr(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  const UniqueFd file(::openat(at.directory, at.name(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat s {};
  // Flags of other kinds of files, which xfs has, are no FUSE client's.
  if (file && ::fstat(file.get(), &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode)) return "";
  int flags = 0;
  if (!file || ::ioctl(file.get(), FS_IOC_GETFLAGS, &flags) != 0) return result(-1);
  flags ^= static_cast<int>(op.n[0]);
  return result(::ioctl(file.get(), FS_IOC_SETFLAGS, &flags));
}

void invent_nothing(Random&, Operation&) {}

constexpr Call kCalls[] = {
    {"chmod", 16, &perform_chmod, &invent_chmod},
    {"fchmod", 5, &perform_fchmod, &invent_chmod},
    {"chown", 12, &perform_chown, &invent_chown},
    {"fchown", 4, &perform_fchown, &invent_chown},
    {"utimes", 10, &perform_utimes, &invent_utimes},
    {"futimes", 4, &perform_futimes, &invent_utimes},
    {"access", 8, &perform_access, &invent_access},
    {"get_flags", 2, &perform_get_flags, &invent_nothing},
    {"set_flags", 3, &perform_set_flags, &invent_set_flags},
    {"fsxattr", 2, &perform_fsxattr, &invent_fsxattr},
    {"chattr", 0, &perform_chattr, &invent_nothing},
};

}  // namespace

std::span<const Call> attribute_calls() { return kCalls; }

}  // namespace berth::test
