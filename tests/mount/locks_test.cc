#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/file.h"
#include "tests/mount/compared_share.h"
#include "tests/mount/stopped_caller.h"

// Locks reach the real files: locks through berth and locks past berth conflict with each other.
namespace berth::test {
namespace {

int lock(int fd, int command, short type, off_t start = 0, off_t length = 0) {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = start;
  range.l_len = length;
  return ::fcntl(fd, command, &range) == 0 ? 0 : errno;
}

int flock_of(int fd, int operation) { return ::flock(fd, operation) == 0 ? 0 : errno; }

/// The errno of the first call that fails in a process of its own, as text.
std::string elsewhere(const std::function<int()>& act) {
  return in_process([&] { return errno_name(act()); });
}
const std::string kFree = errno_name(0);
const std::string kTaken = errno_name(EAGAIN);

class Locks : public ComparedShare {
 protected:
  void SetUp() override {
    ComparedShare::SetUp();
    ASSERT_TRUE(ok(server_.write_file("source/file", "0123456789")));
    through_ = share_ + "/file";
    beside_ = source_ + "/file";
  }
  static UniqueFd open(const std::string& path, int flags = O_RDWR) {
    return UniqueFd(::open(path.c_str(), flags, 0644));
  }
  /// Both ways: what is locked here must be taken there.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> ways() const {
    return {{through_, beside_}, {beside_, through_}, {through_, through_}};
  }

  std::string through_, beside_;
};

TEST_F(Locks, OfProcessesExcludeEachOther) {
  for (const auto& [here, there] : ways()) {
    SCOPED_TRACE(here + " and " + there);
    const UniqueFd fd = open(here);
    ASSERT_EQ(lock(fd.get(), F_SETLK, F_WRLCK, 2, 3), 0);
    const auto in_the_way = [&, at = there](short type, off_t start, off_t length) {
      return elsewhere([&] { return lock(open(at).get(), F_SETLK, type, start, length); });
    };
    EXPECT_EQ(in_the_way(F_WRLCK, 0, 0), kTaken);
    EXPECT_EQ(in_the_way(F_RDLCK, 4, 1), kTaken);
    EXPECT_EQ(in_the_way(F_WRLCK, 5, 0), kFree);
    ASSERT_EQ(lock(fd.get(), F_SETLK, F_RDLCK, 2, 3), 0);
    EXPECT_EQ(in_the_way(F_RDLCK, 0, 0), kFree);
    EXPECT_EQ(in_the_way(F_WRLCK, 0, 0), kTaken);
    ASSERT_EQ(lock(fd.get(), F_SETLK, F_UNLCK), 0);
    EXPECT_EQ(in_the_way(F_WRLCK, 0, 0), kFree);
  }
}

TEST_F(Locks, OfOpenFilesExcludeEachOther) {
  for (const auto& [here, there] : ways()) {
    SCOPED_TRACE(here + " and " + there);
    UniqueFd fd = open(here);
    const UniqueFd other = open(there);
    ASSERT_EQ(lock(fd.get(), F_OFD_SETLK, F_WRLCK, 0, 5), 0);
    EXPECT_EQ(lock(other.get(), F_OFD_SETLK, F_WRLCK, 4, 1), EAGAIN);
    EXPECT_EQ(lock(other.get(), F_OFD_SETLK, F_WRLCK, 5, 1), 0);
    EXPECT_EQ(lock(other.get(), F_SETLK, F_RDLCK, 0, 1), EAGAIN);
    EXPECT_EQ(elsewhere([&] { return lock(fd.get(), F_OFD_SETLK, F_WRLCK, 0, 1); }), kFree) << "the same open file";
    fd.reset();
    EXPECT_TRUE(eventually([&] { return lock(other.get(), F_OFD_SETLK, F_WRLCK) == 0; })) << "closed";
  }
}

TEST_F(Locks, OfWholeFilesExcludeEachOther) {
  for (const auto& [here, there] : ways()) {
    SCOPED_TRACE(here + " and " + there);
    UniqueFd fd = open(here, O_RDONLY);
    const UniqueFd other = open(there, O_RDONLY);
    ASSERT_EQ(flock_of(fd.get(), LOCK_EX | LOCK_NB), 0);
    EXPECT_EQ(flock_of(other.get(), LOCK_EX | LOCK_NB), EAGAIN);
    EXPECT_EQ(flock_of(other.get(), LOCK_SH | LOCK_NB), EAGAIN);
    ASSERT_EQ(flock_of(fd.get(), LOCK_SH | LOCK_NB), 0);
    EXPECT_EQ(flock_of(other.get(), LOCK_SH | LOCK_NB), 0);
    EXPECT_EQ(flock_of(other.get(), LOCK_EX | LOCK_NB), EAGAIN);
    fd.reset();
    EXPECT_TRUE(eventually([&] { return flock_of(other.get(), LOCK_EX | LOCK_NB) == 0; })) << "closed";
  }
}

TEST_F(Locks, EndWhenAnyDescriptorOfTheFileIsClosed) {
  const UniqueFd fd = open(through_);
  ASSERT_EQ(lock(fd.get(), F_SETLK, F_WRLCK), 0);
  const auto free_elsewhere = [&] { return elsewhere([&] { return lock(open(beside_).get(), F_SETLK, F_WRLCK); }); };
  EXPECT_EQ(free_elsewhere(), kTaken);
  open(through_, O_RDONLY).reset();
  EXPECT_EQ(free_elsewhere(), kFree) << "another one was closed";
  ASSERT_EQ(lock(fd.get(), F_SETLK, F_WRLCK), 0);
  EXPECT_EQ(free_elsewhere(), kTaken);
  UniqueFd(::dup(fd.get())).reset();
  EXPECT_EQ(free_elsewhere(), kFree) << "a copy was closed";
  ASSERT_EQ(lock(fd.get(), F_SETLK, F_WRLCK), 0);
  EXPECT_EQ(elsewhere([&] { return ::close(fd.get()); }), kFree);
  EXPECT_EQ(free_elsewhere(), kTaken) << "closed by another process";
}

TEST_F(Locks, EndWithTheirProcess) {
  for (const int flags : {O_RDWR, O_WRONLY, O_RDONLY}) {
    const short type = flags == O_RDONLY ? F_RDLCK : F_WRLCK;
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const UniqueFd fd = open(through_, flags);
      const char code = static_cast<char>(lock(fd.get(), F_SETLK, type));
      if (::write(ready[1], &code, 1) == 1) ::pause();
      ::_exit(1);
    }
    char code = -1;
    ASSERT_EQ(::read(ready[0], &code, 1), 1);
    EXPECT_EQ(code, 0);
    const UniqueFd beside = open(beside_);
    EXPECT_EQ(lock(beside.get(), F_SETLK, F_WRLCK), EAGAIN);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_TRUE(eventually([&] { return lock(beside.get(), F_SETLK, F_WRLCK) == 0; }));
    ::close(ready[0]);
    ::close(ready[1]);
  }
}

TEST_F(Locks, WhoHoldsOneIsTold) {
  const UniqueFd fd = open(through_);
  ASSERT_EQ(lock(fd.get(), F_SETLK, F_WRLCK, 3, 4), 0);
  const std::string told = in_process([&]() -> std::string {
    struct flock range {};
    range.l_type = F_RDLCK;
    if (::fcntl(open(through_).get(), F_GETLK, &range) != 0) return errno_name(errno);
    return std::to_string(range.l_type) + " " + std::to_string(range.l_start) + " " + std::to_string(range.l_len) +
           " " + std::to_string(range.l_pid);
  });
  EXPECT_EQ(told, std::to_string(F_WRLCK) + " 3 4 " + std::to_string(::getpid()));
}

/// A process that waits for a lock; its end says what came of it.
class Waiter {
 public:
  explicit Waiter(const std::function<int()>& wait) : child_(::fork()) {
    if (child_ != 0) return;
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    ::_exit(wait());
  }
  [[nodiscard]] bool waits() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
  }
  /// Asleep in the call that locks.
  [[nodiscard]] bool is_asleep() const {
    const std::string process = "/proc/" + std::to_string(child_);
    const Result<std::string> where = sys::read_file(process + "/wchan", 100);
    const Result<std::string> call = sys::read_file(process + "/syscall", 300);
    return where && call && where->find("request_wait_answer") != std::string::npos &&
           (call->starts_with(std::to_string(SYS_fcntl) + " ") || call->starts_with(std::to_string(SYS_flock) + " "));
  }
  void signal(int number) const { ::kill(child_, number); }
  [[nodiscard]] int end() const {
    int status = -1;
    ::waitpid(child_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  const pid_t child_;
};

TEST_F(Locks, OwnerIsToldAmongManyOthers) {
  constexpr int kOwners = 300;
  std::vector<UniqueFd> others;
  others.reserve(kOwners);
  for (int i = 0; i < kOwners; ++i) {
    others.push_back(open(through_));
    ASSERT_EQ(lock(others.back().get(), F_OFD_SETLK, F_WRLCK, 100 + i, 1), 0);
  }
  const UniqueFd mine = open(through_);
  ASSERT_EQ(lock(mine.get(), F_SETLK, F_WRLCK, 5, 2), 0);
  ASSERT_EQ(lock(mine.get(), F_SETLK, F_WRLCK, 1000, 0), 0);
  const pid_t self = ::getpid();
  for (const off_t start : {5, 6, 5000}) {
    EXPECT_EQ(elsewhere([&] {
                struct flock range {};
                range.l_type = F_RDLCK;
                range.l_start = start;
                range.l_len = 1;
                if (::fcntl(open(through_).get(), F_GETLK, &range) != 0) return errno;
                return range.l_pid == self && range.l_type == F_WRLCK ? 0 : ESRCH;
              }),
              kFree);
  }
}

TEST_F(Locks, ThoseWhoWaitGetThemInTheEnd) {
  for (const std::string& holder : {through_, beside_}) {
    for (const bool whole : {false, true}) {
      SCOPED_TRACE(holder + (whole ? " flock" : " fcntl"));
      const UniqueFd fd = open(holder);
      ASSERT_EQ(whole ? flock_of(fd.get(), LOCK_EX) : lock(fd.get(), F_SETLK, F_WRLCK), 0);
      const Waiter waiter([&] {
        const UniqueFd own = open(through_);
        return whole ? flock_of(own.get(), LOCK_EX) : lock(own.get(), F_SETLKW, F_WRLCK);
      });
      ASSERT_TRUE(eventually([&] { return waiter.is_asleep(); }));
      EXPECT_TRUE(waiter.waits());
      EXPECT_EQ(whole ? flock_of(fd.get(), LOCK_UN) : lock(fd.get(), F_SETLK, F_UNLCK), 0);
      EXPECT_EQ(waiter.end(), 0);
    }
  }
}

// The kernel begins such a call again.
TEST_F(Locks, OfAProcessThatIsStoppedWhileItWaitsComesAfterwards) {
  for (const bool whole : {false, true}) {
    for (const Stop how : {Stop::kSignal, Stop::kTracer}) {
      SCOPED_TRACE((whole ? "flock, stop " : "fcntl, stop ") + std::to_string(static_cast<int>(how)));
      const UniqueFd fd = open(beside_);
      ASSERT_EQ(whole ? flock_of(fd.get(), LOCK_EX) : lock(fd.get(), F_SETLK, F_WRLCK), 0);
      const UniqueFd own = open(through_);
      StoppedCaller waiter([&] { return whole ? flock_of(own.get(), LOCK_EX) : lock(own.get(), F_SETLKW, F_WRLCK); });
      ASSERT_NO_FATAL_FAILURE(waiter.stop_at_once(how));
      EXPECT_EQ(whole ? flock_of(fd.get(), LOCK_UN) : lock(fd.get(), F_SETLK, F_UNLCK), 0);
      EXPECT_EQ(waiter.go_on(), 0);
    }
  }
}

/// Each has a byte and waits for another's. For locks of open files Linux looks for no deadlocks.
TEST_F(Locks, OfProcessesThatWaitForEachOtherAreADeadlock) {
  for (const bool of_files : {false, true}) {
    SCOPED_TRACE(of_files ? "open files" : "processes");
    const int take = of_files ? F_OFD_SETLK : F_SETLK, wait = of_files ? F_OFD_SETLKW : F_SETLKW;
    int ready[2], go[2];
    ASSERT_TRUE(::pipe2(ready, O_CLOEXEC) == 0 && ::pipe2(go, O_CLOEXEC) == 0);
    char byte = 0;
    const Waiter last([&] {
      const UniqueFd own = open(through_);
      const bool led =
          lock(own.get(), take, F_WRLCK, 0, 1) == 0 && ::write(ready[1], &byte, 1) == 1 && ::read(go[0], &byte, 1) == 1;
      return led ? lock(own.get(), wait, F_WRLCK, 2, 1) : EIO;
    });
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    const auto has_and_wants = [&](off_t has, off_t wants) {
      return [this, take, wait, has, wants] {
        const UniqueFd own = open(through_);
        const int taken = lock(own.get(), take, F_WRLCK, has, 1);
        return taken != 0 ? taken : lock(own.get(), wait, F_WRLCK, wants, 1);
      };
    };
    const Waiter first(has_and_wants(1, 0));
    ASSERT_TRUE(eventually([&] { return first.is_asleep(); }));
    const Waiter second(has_and_wants(2, 1));
    ASSERT_TRUE(eventually([&] { return second.is_asleep(); }));
    ASSERT_EQ(::write(go[1], &byte, 1), 1);
    if (of_files) {
      EXPECT_TRUE(eventually([&] { return last.is_asleep(); }));
      last.signal(SIGUSR1);
    }
    EXPECT_EQ(last.end(), of_files ? EINTR : EDEADLK);
    EXPECT_EQ(first.end(), 0);
    EXPECT_EQ(second.end(), 0);
    for (const int fd : {ready[0], ready[1], go[0], go[1]}) ::close(fd);
  }
}

/// The circle is there only when a third process gives back what the last one waits for first.
TEST_F(Locks, OfProcessesThatComeToWaitForEachOtherAreADeadlock) {
  const UniqueFd own = open(through_);
  ASSERT_EQ(lock(own.get(), F_SETLK, F_WRLCK, 0, 1), 0);
  int ready[2], go[2];
  ASSERT_TRUE(::pipe2(ready, O_CLOEXEC) == 0 && ::pipe2(go, O_CLOEXEC) == 0);
  char byte = 0;
  const Waiter first([&] {
    const UniqueFd file = open(through_);
    const bool led = lock(file.get(), F_SETLK, F_WRLCK, 1, 1) == 0 && ::write(ready[1], &byte, 1) == 1 &&
                     ::read(go[0], &byte, 1) == 1;
    return led ? lock(file.get(), F_SETLKW, F_WRLCK, 2, 1) : EIO;
  });
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const Waiter second([&] {
    const UniqueFd file = open(through_);
    const int taken = lock(file.get(), F_SETLK, F_WRLCK, 2, 1);
    return taken != 0 ? taken : lock(file.get(), F_SETLKW, F_WRLCK, 0, 2);
  });
  ASSERT_TRUE(eventually([&] { return second.is_asleep(); }));
  ASSERT_EQ(::write(go[1], &byte, 1), 1);
  ASSERT_TRUE(eventually([&] { return first.is_asleep(); }));
  ASSERT_TRUE(first.waits() && second.waits());
  ASSERT_EQ(lock(own.get(), F_SETLK, F_UNLCK), 0);
  std::vector<int> ends{first.end(), second.end()};
  std::sort(ends.begin(), ends.end());
  EXPECT_EQ(ends, (std::vector<int>{0, EDEADLK}));
  for (const int fd : {ready[0], ready[1], go[0], go[1]}) ::close(fd);
}

/// A file that is open for writing cannot be executed, nor can one that is executed be opened for writing.
TEST_F(Locks, ToReadLeaveAProgramExecutable) {
  ASSERT_TRUE(ok(server_.write_file("source/program", "#!/bin/sh\nexit 3\n")));
  std::filesystem::copy_file("/bin/true", source_ + "/true");
  ASSERT_EQ(::chmod((source_ + "/true").c_str(), 0755), 0);
  const UniqueFd reader = open(share_ + "/true", O_RDONLY);
  for (const int command : {F_SETLK, F_OFD_SETLK}) {
    ASSERT_EQ(lock(reader.get(), command, F_RDLCK, 0, 10), 0);
    EXPECT_EQ(elsewhere([&] { return ::execl((source_ + "/true").c_str(), "true", nullptr) != 0 ? errno : 0; }), "")
        << "a program that runs answers nothing";
    EXPECT_EQ(lock(reader.get(), command, F_UNLCK, 0, 10), 0);
  }
}

/// A process has a file open to read, and then to write as well.
TEST_F(Locks, ToReadBecomeLocksToWriteAndAreNotLostOnTheWay) {
  const UniqueFd reader = open(through_, O_RDONLY);
  ASSERT_EQ(lock(reader.get(), F_SETLK, F_RDLCK, 0, 4), 0);
  ASSERT_EQ(lock(reader.get(), F_SETLK, F_RDLCK, 8, 0), 0);
  const UniqueFd writer = open(through_);
  ASSERT_EQ(lock(writer.get(), F_SETLK, F_WRLCK, 2, 2), 0);
  const auto of_another = [&](short type, off_t start) {
    return elsewhere([&] { return lock(open(beside_).get(), F_SETLK, type, start, 1); });
  };
  EXPECT_EQ(of_another(F_WRLCK, 0), kTaken);
  EXPECT_EQ(of_another(F_RDLCK, 0), kFree);
  EXPECT_EQ(of_another(F_RDLCK, 2), kTaken);
  EXPECT_EQ(of_another(F_WRLCK, 5), kFree);
  EXPECT_EQ(of_another(F_WRLCK, 100), kTaken);
  ASSERT_EQ(lock(writer.get(), F_SETLK, F_UNLCK), 0);
  EXPECT_EQ(of_another(F_WRLCK, 0), kFree);
}

TEST_F(Locks, OfOneUserLeaveRoomToWaitForOthers) {
  constexpr int kOfUser = 1024, kProcesses = 8;
  std::filesystem::permissions(beside_, std::filesystem::perms(0666));
  const UniqueFd fd = open(beside_);
  ASSERT_EQ(flock_of(fd.get(), LOCK_EX), 0);
  const auto wait_as = [&](uid_t user) {
    return Waiter([&, user] {
      const UniqueFd own = open(through_);
      return ::setresuid(user, user, user) == 0 ? flock_of(own.get(), LOCK_EX) : EPERM;
    });
  };
  int refused[2];
  ASSERT_EQ(::pipe2(refused, O_CLOEXEC), 0);
  std::vector<Waiter> processes;
  processes.reserve(kProcesses);
  for (int i = 0; i < kProcesses; ++i) {
    processes.emplace_back([&] {
      if (::setresuid(kNobody, kNobody, kNobody) != 0) return EPERM;
      std::vector<std::thread> threads;
      threads.reserve(kOfUser / kProcesses + 1);
      for (int j = 0; j <= kOfUser / kProcesses; ++j) {
        threads.emplace_back([&] {
          const char code = static_cast<char>(flock_of(open(through_).get(), LOCK_EX));
          if (::write(refused[1], &code, 1) != 1) ::_exit(EIO);
        });
      }
      for (std::thread& thread : threads) thread.join();
      return 0;
    });
  }
  char code = 0;
  for (int i = 0; i < kProcesses; ++i) {
    ASSERT_EQ(::read(refused[0], &code, 1), 1);
    EXPECT_EQ(code, ENOLCK) << "one too many";
  }
  const Waiter of_another_user = wait_as(kNobody - 1), of_root = wait_as(0);
  EXPECT_TRUE(eventually([&] { return of_another_user.is_asleep() && of_root.is_asleep(); }));
  EXPECT_TRUE(of_another_user.waits() && of_root.waits());
  ASSERT_EQ(flock_of(fd.get(), LOCK_UN), 0);
  EXPECT_EQ(of_another_user.end(), 0);
  EXPECT_EQ(of_root.end(), 0);
  for (const Waiter& process : processes) EXPECT_EQ(process.end(), 0);
  for (const int end : refused) ::close(end);
}

TEST_F(Locks, OutliveTheServer) {
  const UniqueFd record = open(through_);
  UniqueFd whole = open(share_ + "/whole", O_RDWR | O_CREAT);
  ASSERT_EQ(lock(record.get(), F_SETLK, F_WRLCK, 2, 3), 0);
  ASSERT_EQ(flock_of(whole.get(), LOCK_EX), 0);
  const Waiter waiter([&] { return lock(open(through_).get(), F_SETLKW, F_WRLCK, 4, 4); });
  ASSERT_TRUE(eventually([&] { return waiter.is_asleep(); }));
  ASSERT_NO_FATAL_FAILURE(server_.kill_server());
  EXPECT_EQ(elsewhere([&] { return lock(open(beside_).get(), F_SETLK, F_RDLCK, 4, 1); }), kTaken);
  EXPECT_EQ(elsewhere([&] { return flock_of(open(source_ + "/whole").get(), LOCK_SH | LOCK_NB); }), kTaken);
  EXPECT_TRUE(waiter.waits());
  ASSERT_EQ(lock(record.get(), F_SETLK, F_RDLCK, 2, 3), 0) << "not in its own way";
  open(through_).reset();
  EXPECT_EQ(waiter.end(), 0);
  EXPECT_EQ(elsewhere([&] { return lock(open(beside_).get(), F_SETLK, F_WRLCK); }), kFree);
  whole.reset();
  EXPECT_TRUE(eventually(
      [&] { return elsewhere([&] { return flock_of(open(source_ + "/whole").get(), LOCK_EX | LOCK_NB); }) == kFree; }));
}

TEST_F(Locks, ThoseWhoWaitCanBeInterruptedAndHoldUpNobody) {
  constexpr int kWaiters = 100;
  const UniqueFd fd = open(beside_);
  ASSERT_EQ(lock(fd.get(), F_SETLK, F_WRLCK), 0);
  std::vector<Waiter> waiters;
  waiters.reserve(kWaiters);
  for (int i = 0; i < kWaiters; ++i) {
    waiters.emplace_back([&] { return lock(open(through_).get(), F_SETLKW, F_WRLCK); });
  }
  for (const Waiter& waiter : waiters) ASSERT_TRUE(eventually([&] { return waiter.is_asleep(); }));
  EXPECT_TRUE(eventually([&] { return server_.footprint().threads < static_cast<std::size_t>(kWaiters / 2); }));
  EXPECT_EQ(*server_.read_file("namespace/a/file"), "0123456789");
  for (std::size_t i = 0; i < waiters.size(); ++i) waiters[i].signal(i % 2 == 0 ? SIGUSR1 : SIGKILL);
  for (std::size_t i = 0; i < waiters.size(); ++i) EXPECT_EQ(waiters[i].end(), i % 2 == 0 ? EINTR : -SIGKILL);
  EXPECT_EQ(lock(fd.get(), F_SETLK, F_UNLCK), 0);
  EXPECT_TRUE(
      eventually([&] { return elsewhere([&] { return lock(open(beside_).get(), F_SETLK, F_WRLCK); }) == kFree; }));
}

}  // namespace
}  // namespace berth::test
