#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "tests/parity/hand.h"

// Opening, closing, and what is asked of something open as a whole.
namespace berth::test {
namespace {

/// Never waits for the other end of a FIFO.
constexpr int kAlways = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

std::string perform_open(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return opened(hand, op.slot,
                ::openat(at.directory, at.name(), static_cast<int>(op.n[0]) | kAlways, static_cast<mode_t>(op.n[1])));
}

void invent_open(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = random.of({O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR, O_PATH, O_ACCMODE});
  for (const int flag :
       {O_CREAT, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_SYNC, O_DSYNC, O_NOATIME, O_PATH}) {
    if (random.one_in(flag == O_CREAT ? 2 : 7)) op.n[0] |= flag;
  }
  if (random.one_in(20)) op.n[0] |= O_DIRECT;
  op.n[1] = invent_mode(random);
}

std::string perform_tmpfile(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return opened(
      hand, op.slot,
      ::openat(at.directory, at.name(), O_TMPFILE | static_cast<int>(op.n[0]) | kAlways, static_cast<mode_t>(op.n[1])));
}

void invent_tmpfile(Random& random, Operation& op) {
  op.path = random.one_in(3) ? "." : invent_path(random);
  op.n[0] = random.of({O_RDWR, O_RDWR, O_WRONLY, O_RDWR | O_EXCL, O_RDONLY, O_RDWR | O_APPEND});
  op.n[1] = invent_mode(random);
}

/// Gives a file without a name the name `path`.
std::string perform_link_fd(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  return result(::linkat(hand.proc(), hand.number(op.slot).c_str(), at.directory, at.name(), AT_SYMLINK_FOLLOW));
}

void invent_path_and_slot(Random& random, Operation& op) { op.path = invent_path(random); }

/// Opens once more what is open.
std::string perform_reopen(Hand& hand, const Operation& op) {
  return opened(hand, op.other_slot,
                ::openat(hand.proc(), hand.number(op.slot).c_str(), static_cast<int>(op.n[0]) | kAlways));
}

void invent_reopen(Random& random, Operation& op) {
  op.n[0] =
      random.of({O_RDONLY, O_RDWR, O_WRONLY, O_PATH, O_RDWR | O_TRUNC, O_RDWR | O_APPEND, O_RDONLY | O_DIRECTORY});
}

std::string perform_close(Hand& hand, const Operation& op) { return result(hand.close(op.slot)); }

std::string perform_dup(Hand& hand, const Operation& op) {
  const int copy = ::fcntl(hand.fd(op.slot), F_DUPFD_CLOEXEC, 0);
  std::string said = opened(hand, op.other_slot, copy);
  if (copy >= 0) hand.note_copy(op.other_slot, op.slot);
  return said;
}

std::string perform_flags(Hand& hand, const Operation& op) {
  const int now = ::fcntl(hand.fd(op.slot), F_GETFL);
  if (now < 0 || op.n[0] < 0) return result(now);
  // Linux opens the backing file with the flags of the first open, and keeps appending.
  return result(::fcntl(hand.fd(op.slot), F_SETFL, op.n[0] | O_NONBLOCK | (now & O_APPEND)));
}

void invent_flags(Random& random, Operation& op) { op.n[0] = random.of({-1, -1, 0, O_APPEND, O_NOATIME}); }

std::string shown(const struct stat& s) {
  char text[160];
  std::snprintf(text, sizeof text, "mode %o links %lu owner %u:%u rdev %lx size %ld block %ld", s.st_mode, s.st_nlink,
                s.st_uid, s.st_gid, s.st_rdev, s.st_size, s.st_blksize);
  return text;
}

std::string perform_fstat(Hand& hand, const Operation& op) {
  struct stat s {};
  const int answer = ::fstat(hand.fd(op.slot), &s);
  return answer < 0 ? result(answer) : shown(s);
}

std::string perform_stat(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  struct stat s {};
  const int answer = ::fstatat(at.directory, at.name(), &s, static_cast<int>(op.n[0]));
  return answer < 0 ? result(answer) : shown(s);
}

void invent_stat(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = random.of({0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH});
}

std::string shown(const struct statvfs& s) {
  char text[160];
  std::snprintf(text, sizeof text, "block %lu fragment %lu blocks %lu files %lu longest %lu", s.f_bsize, s.f_frsize,
                s.f_blocks, s.f_files, s.f_namemax);
  return text;
}

std::string perform_statfs(Hand& hand, const Operation& op) {
  struct statvfs s {};
  const int answer = op.path.empty() ? ::fstatvfs(hand.fd(op.slot), &s) : ::statvfs(hand.at(op.path).name(), &s);
  return answer < 0 ? result(answer) : shown(s);
}

void invent_statfs(Random& random, Operation& op) { op.path = random.one_in(3) ? "" : invent_path(random); }

std::string perform_chdir(Hand& hand, const Operation& op) { return result(hand.go_to(op.path)); }

/// Runs it as a program, in a process of its own.
std::string perform_execute(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  const pid_t child = ::fork();
  if (child == 0) {
    char* const argv[] = {nullptr};
    char name[] = "program";
    char* const arguments[] = {name, nullptr};
    ::execveat(at.directory, at.name(), arguments, argv, static_cast<int>(op.n[0]));
    ::_exit(errno == 0 ? 255 : errno & 0x7f);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return "status " + std::to_string(status);
}

/// A socket bound to the name.
std::string perform_bind(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  at.path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (at.path.empty()) return "";
  return result(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address));
}

std::string perform_umask(Hand&, const Operation& op) {
  ::umask(static_cast<mode_t>(op.n[0]));
  return "";
}

void invent_umask(Random& random, Operation& op) { op.n[0] = random.of({0L, 022L, 077L, 027L, 0777L, 0111L}); }

/// The process's only supplementary group from now on, where it may choose.
std::string perform_set_group(Hand&, const Operation& op) {
  const auto group = static_cast<gid_t>(op.n[0]);
  return result(::setgroups(1, &group));
}

void invent_group(Random& random, Operation& op) { op.n[0] = random.of({2001, 2002, 3000}); }
void invent_nothing(Random&, Operation&) {}

constexpr Call kCalls[] = {
    {"open", 60, &perform_open, &invent_open, Call::Stamps::kCoarseOnTmpfs},
    {"tmpfile", 4, &perform_tmpfile, &invent_tmpfile},
    {"link_fd", 4, &perform_link_fd, &invent_path_and_slot, Call::Stamps::kCoarseOnTmpfs},
    {"reopen", 6, &perform_reopen, &invent_reopen},
    {"close", 8, &perform_close, &invent_nothing},
    {"dup", 3, &perform_dup, &invent_nothing},
    {"flags", 3, &perform_flags, &invent_flags},
    {"fstat", 5, &perform_fstat, &invent_nothing},
    {"stat", 10, &perform_stat, &invent_stat},
    {"statfs", 3, &perform_statfs, &invent_statfs},
    {"chdir", 4, &perform_chdir, &invent_path_and_slot},
    {"execute", 3, &perform_execute, &invent_path_and_slot, Call::Stamps::kCoarse},
    {"bind", 2, &perform_bind, &invent_path_and_slot, Call::Stamps::kCoarseOnTmpfs},
    {"umask", 2, &perform_umask, &invent_umask},
    {"set_group", 3, &perform_set_group, &invent_group},
};

}  // namespace

std::span<const Call> open_calls() { return kCalls; }

}  // namespace berth::test
