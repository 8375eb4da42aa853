// Shares whose servers do not answer: callers that wait in them can be killed, and no other caller notices.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <utility>

#include "tests/mount/hung_share.h"
#include "tests/mount/stopped_caller.h"

namespace berth::test {
namespace {

constexpr uid_t kUser = 1000;
constexpr int kMany = 600;

constexpr const char* kNoHelper = "the kernel does not say which process serves a FUSE mount (Linux 6.16)";

int code(bool done) { return done ? 0 : errno; }

/// A call of each kind into r0.
class EachCall : public HungShareTest {
 protected:
  using Calls = std::map<std::string, std::function<int()>>;
  [[nodiscard]] Calls calls_of(int file) const;
};

EachCall::Calls EachCall::calls_of(int file) const {
  return {
      {"stat", [this] { return look_at(in("r0/file")); }},
      {"stat below", [this] { return look_at(in("r0/some/directory")); }},
      {"open", [this] { return code(::open(in("r0/file").c_str(), O_RDONLY) >= 0); }},
      {"create", [this] { return code(::open(in("r0/new").c_str(), O_RDWR | O_CREAT, 0644) >= 0); }},
      {"mkdir", [this] { return code(::mkdir(in("r0/made").c_str(), 0755) == 0); }},
      {"unlink", [this] { return code(::unlink(in("r0/file").c_str()) == 0); }},
      {"rename", [this] { return code(::rename(in("r0/file").c_str(), in("r0/moved").c_str()) == 0); }},
      {"truncate", [this] { return code(::truncate(in("r0/written").c_str(), 1) == 0); }},
      {"chmod of the root", [this] { return code(::chmod(in("r0").c_str(), 0700) == 0); }},
      {"statvfs",
       [this] {
         struct statvfs all {};
         return code(::statvfs(in("r0").c_str(), &all) == 0);
       }},
      {"listing",
       [this] {
         DIR* const listing = ::opendir(in("r0").c_str());
         return code(listing != nullptr && ::readdir(listing) != nullptr);
       }},
      {"fstat",
       [file] {
         struct stat attributes {};
         return code(::fstat(file, &attributes) == 0);
       }},
      {"read",
       [file] {
         char byte = 0;
         return code(::pread(file, &byte, 1, 0) >= 0);
       }},
      {"write and fsync", [file] { return code(::pwrite(file, "x", 1, 0) == 1 && ::fsync(file) == 0); }},
      {"a record lock",
       [file] {
         struct flock range {};
         range.l_type = F_WRLCK;
         return code(::fcntl(file, F_SETLKW, &range) == 0 && ::fsync(file) == 0);
       }},
      {"names of extended attributes", [this] { return code(::listxattr(in("r0/file").c_str(), nullptr, 0) >= 0); }},
  };
}

TEST_F(EachCall, ThatWaitsCanBeInterruptedAndKilled) {
  start(1);
  touch_remote(1);
  const UniqueFd file(::open(in("r0/written").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_TRUE(file);
  const std::size_t before = threads();
  hang(0);
  const auto calls = calls_of(file.get());
  for (const int signal : {SIGKILL, SIGINT}) {
    for (const auto& [name, call] : calls) {
      SCOPED_TRACE(name + " by signal " + std::to_string(signal));
      Callers caller;
      caller.add(call);
      ASSERT_TRUE(caller.all_wait());
      caller.kill(signal);
      EXPECT_TRUE(caller.all_end());
      EXPECT_EQ(caller.ended_with(signal), 1U);
    }
  }
  go_on(0);
  EXPECT_EQ(look_at(in("r0")), 0);
  // A few threads more or less serve; those that were stuck are not among them.
  EXPECT_TRUE(eventually([&] { return threads() <= before + 8; }));
}

TEST_F(HungShareTest, SignalThatIsHandledEndsTheCall) {
  start(1);
  touch_remote(1);
  hang(0);
  Callers caller;
  caller.add([this] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    return look_at(in("r0/other"));
  });
  ASSERT_TRUE(caller.all_wait());
  caller.kill(SIGUSR1);
  EXPECT_TRUE(caller.all_end());
  EXPECT_EQ(caller.ended_with(EINTR << 8), 1U);
}

// Late in the server: to lock takes another open file there.
TEST_F(HungShareTest, LockOfACallerThatWasInterruptedOrKilledIsNotHeldAfterwards) {
  start(1);
  touch_remote(1);
  ASSERT_TRUE(ok(server_.write_file("far0/locked", "0123456789")));
  const auto lock = [](int file, short type, off_t start) {
    struct flock range {};
    range.l_type = type;
    range.l_start = start;
    range.l_len = 10;
    return code(::fcntl(file, F_SETLK, &range) == 0);
  };
  const std::map<std::string, std::function<int(int)>> calls{
      {"a record lock", [&](int file) { return lock(file, F_WRLCK, 0); }},
      {"a lock to write after one to read", [&](int file) { return lock(file, F_WRLCK, 20); }},
  };
  for (const int signal : {SIGUSR1, SIGKILL}) {
    for (const auto& [name, call] : calls) {
      SCOPED_TRACE(name + " by signal " + std::to_string(signal));
      const UniqueFd other(::open(in("r0/locked").c_str(), O_RDWR | O_CLOEXEC));
      int ready[2], go[2];
      ASSERT_TRUE(other && ::pipe2(ready, O_CLOEXEC) == 0 && ::pipe2(go, O_CLOEXEC) == 0);
      char byte = 0;
      Callers caller;
      caller.add([&, run = call] {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        ::sigaction(SIGUSR1, &action, nullptr);
        const UniqueFd reader(::open(in("r0/locked").c_str(), O_RDONLY | O_CLOEXEC));
        const UniqueFd writer(::open(in("r0/locked").c_str(), O_RDWR | O_CLOEXEC));
        if (lock(reader.get(), F_RDLCK, 20) != 0 || ::write(ready[1], &byte, 1) != 1 || ::read(go[0], &byte, 1) != 1)
          return EIO;
        const int met = run(writer.get());
        if (::write(ready[1], &byte, 1) != 1 || ::read(go[0], &byte, 1) != 1) return EIO;
        return met;
      });
      ASSERT_EQ(::read(ready[0], &byte, 1), 1);
      hang(0);
      ASSERT_EQ(::write(go[1], &byte, 1), 1);
      ASSERT_TRUE(caller.all_wait());
      caller.kill(signal);
      if (signal == SIGKILL) {
        EXPECT_TRUE(caller.all_end());
      } else {
        ASSERT_EQ(::read(ready[0], &byte, 1), 1);
      }
      go_on(0);
      EXPECT_TRUE(eventually([&] { return lock(other.get(), F_WRLCK, 0) == 0; })) << "what was never held";
      if (signal == SIGKILL) {
        EXPECT_TRUE(eventually([&] { return lock(other.get(), F_WRLCK, 20) == 0; })) << "ended with its process";
      } else {
        EXPECT_TRUE(eventually([&] { return lock(other.get(), F_RDLCK, 20) == 0; })) << "for reading, as before";
        EXPECT_EQ(lock(other.get(), F_WRLCK, 20), EAGAIN) << "held before";
        ASSERT_EQ(::write(go[1], &byte, 1), 1);
        EXPECT_TRUE(caller.all_end());
        EXPECT_EQ(caller.ended_with(EINTR << 8), 1U);
      }
      for (const int end : {ready[0], ready[1], go[0], go[1]}) ::close(end);
    }
  }
}

// The kernel interrupts a call for a stop as well; on Linux such a call goes on afterwards.
TEST_F(EachCall, ThatIsStoppedWhileItWaitsGoesOnAfterwards) {
  start(1);
  touch_remote(1);
  const UniqueFd file(::open(in("r0/written").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_TRUE(file);
  int number = 0;
  for (const auto& [name, call] : calls_of(file.get())) {
    const Stop how = kStops[static_cast<std::size_t>(number++) % std::size(kStops)];
    SCOPED_TRACE(name + ", stop " + std::to_string(static_cast<int>(how)));
    const auto furnish = [this] {
      for (const char* made : {"/new", "/made", "/moved"}) std::filesystem::remove(server_.path("far0") + made);
      ASSERT_TRUE(ok(server_.write_file("far0/file", "far away")));
    };
    furnish();
    const int expected = StoppedCaller(call).end();
    furnish();
    hang(0);
    StoppedCaller caller(call);
    if (name == "a record lock") {
      caller.stop_at_once(Stop::kSignal);  // the kernel begins it again
    } else {
      caller.stop(how);
    }
    go_on(0);
    EXPECT_EQ(errno_name(caller.go_on()), errno_name(expected));
  }
}

TEST_F(HungShareTest, CallerThatIsStoppedWhileItWaitsForTheMountGoesOnAfterwards) {
  const std::string gate = server_.path("gate");
  ASSERT_EQ(::mkfifo(gate.c_str(), 0600), 0);
  const std::string near = server_.make_directory("slow");
  start(0, "[share.slow]\ntype = \"command\"\naccess = \"proxy\"\nmount = [\"sh\", \"-c\", \"cat " + gate +
               " && exec mount --bind " + near +
               " \\\"$0\\\"\", \"{mountpoint}\"]\nunmount = [\"umount\", \"{mountpoint}\"]\n");
  constexpr const char* kAttachment = ".berth/shares/slow/attachments/one/disk";
  ASSERT_EQ(::mkdir(in(".berth/shares/slow/attachments/one").c_str(), 0755), 0) << errno_name(errno);
  const std::map<std::string, std::function<int()>> calls{
      {"create", [this] { return code(::open(in("slow/new").c_str(), O_RDWR | O_CREAT, 0644) >= 0); }},
      {"mkdir", [this] { return code(::mkdir(in("slow/made").c_str(), 0755) == 0); }},
      {"rename", [this] { return code(::rename(in("slow/file").c_str(), in("slow/moved").c_str()) == 0); }},
      {"listing", [this] { return code(::open(in("slow").c_str(), O_RDONLY | O_DIRECTORY) >= 0); }},
      {"control", [this] { return code(server_.write_control("shares/slow/control", "mount").has_value()); }},
      {"attachment", [this] { return code(::mkdir(in(kAttachment).c_str(), 0755) == 0); }},
  };
  int number = 0;
  for (const auto& [name, call] : calls) {
    const Stop how = kStops[static_cast<std::size_t>(number++) % std::size(kStops)];
    SCOPED_TRACE(name + ", stop " + std::to_string(static_cast<int>(how)));
    ASSERT_TRUE(ok(server_.write_file("slow/file", "near")));
    StoppedCaller caller(call);
    caller.stop(how);
    ASSERT_TRUE(ok(server_.write_file("gate", "")));
    EXPECT_EQ(errno_name(caller.go_on()), errno_name(0));
    ::rmdir(in(kAttachment).c_str());
    ASSERT_TRUE(eventually([&] { return server_.write_control("shares/slow/control", "unmount").has_value(); }));
    for (const char* made : {"/new", "/made", "/moved"}) std::filesystem::remove(near + made);
  }
}

// On other file systems such a call goes on.
TEST_F(EachCall, IsNotInterruptedByASignalThatOnlyTellsOfSomething) {
  start(1);
  touch_remote(1);
  for (const int signal : kSignalsThatOnlyTell) {
    SCOPED_TRACE(signal);
    hang(0);
    StoppedCaller interrupted([this] { return look_at(in("r0/file")); });
    ASSERT_NO_FATAL_FAILURE(interrupted.signal_that_changes_nothing(signal));
    interrupted.signal(SIGUSR1);
    EXPECT_EQ(errno_name(interrupted.end()), errno_name(EINTR));
    StoppedCaller patient([this] { return look_at(in("r0/file")); });
    ASSERT_NO_FATAL_FAILURE(patient.signal_that_changes_nothing(signal));
    go_on(0);
    EXPECT_EQ(errno_name(patient.end()), errno_name(0));
  }
}

// What comes after the stop is another matter.
TEST_F(EachCall, ThatIsStoppedCanBeInterruptedAndKilledAllTheSame) {
  start(1);
  touch_remote(1);
  hang(0);
  for (const int signal : {SIGUSR1, SIGINT, SIGKILL}) {
    SCOPED_TRACE(signal);
    StoppedCaller caller([this] { return look_at(in("r0/file")); });
    ASSERT_NO_FATAL_FAILURE(caller.stop(Stop::kSignal));
    caller.signal(signal);
    EXPECT_EQ(signal == SIGKILL ? caller.end() : caller.go_on(), signal == SIGUSR1 ? EINTR : -signal);
  }
}

TEST_F(HungShareTest, ManyCallersOfOneUserHoldUpNobodyElse) {
  start(2);
  touch_remote(1);
  hang(0);
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/file")); }, kUser, kMany);
  ASSERT_TRUE(stuck.all_wait());
  EXPECT_LT(threads(), 120U);

  Callers others;
  others.add([this] { return read_one(in("h0/file")); }, kUser, 20);
  others.add([this] { return read_one(in("h1/file")); }, kUser + 1);
  others.add([this] { return read_one(in("r1/file")); }, kUser + 1);
  others.add([this] { return read_one(in(".berth/shares/r0/status")); });
  others.add([this] { return look_at(in("nothing")) == ENOENT ? 0 : EIO; });
  EXPECT_TRUE(others.all_end());
  EXPECT_EQ(others.ended_with(0), 24U);
  EXPECT_EQ(stuck.running(), static_cast<std::size_t>(kMany));

  stuck.kill(SIGKILL);
  EXPECT_TRUE(stuck.all_end());
}

TEST_F(HungShareTest, EachOfManyHungSharesHoldsUpItselfAlone) {
  constexpr int kHung = 20;
  start(kHung);
  touch_remote(kHung);
  for (int i = 0; i < kHung; ++i) hang(i);
  Callers stuck;
  for (int i = 0; i < kHung; ++i)
    stuck.add([this, i] { return look_at(in("r" + std::to_string(i) + "/file")); }, kUser, 40);
  ASSERT_TRUE(stuck.all_wait());
  Callers others;
  for (int i = 0; i < kHung; ++i)
    others.add([this, i] { return read_one(in("h" + std::to_string(i) + "/file")); }, kUser);
  EXPECT_TRUE(others.all_end());
  EXPECT_EQ(others.ended_with(0), static_cast<std::size_t>(kHung));
  all_go_on();
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(stuck.ended_with(0), kHung * 40U);
}

// A helper that serves ten requests at once answers no FLUSH then, and each copy of an open file that is closed asks
// for one.
TEST_F(HungShareTest, ProgramsOfOtherSharesStartAlthoughFilesOfItAreOpen) {
  start(2);
  touch_remote(1);
  const UniqueFd file(::open(in("r0/file").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  hang(0);
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/file")); }, kUser, 60);
  ASSERT_TRUE(stuck.all_wait());
  Callers others;
  others.add([this] { return read_one(in("r1/file")); }, kUser + 1);
  EXPECT_TRUE(others.all_end());
  EXPECT_EQ(others.ended_with(0), 1U) << server_.read_control("shares/r1/error").value_or("");
  EXPECT_TRUE(eventually([this] { return server_.write_control("shares/r1/control", "unmount").has_value(); }));
  go_on(0);  // else the close of the file waits
}

TEST_F(HungShareTest, WhoWaitedIsAnsweredWhenTheServerIsBack) {
  start(1);
  touch_remote(1);
  hang(0);
  Callers waiting;
  waiting.add([this] { return read_one(in("r0/file")); }, kUser, 200);
  waiting.add(
      [this] {
        const UniqueFd made(::open(in("r0/" + std::to_string(::getpid())).c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644));
        return code(made && ::write(made.get(), "text", 4) == 4 && ::fsync(made.get()) == 0);
      },
      0, 100);
  ASSERT_TRUE(waiting.all_wait());
  go_on(0);
  EXPECT_TRUE(waiting.all_end());
  EXPECT_EQ(waiting.ended_with(0), 300U);
  EXPECT_TRUE(eventually([this] { return threads() < 30; }));
}

TEST_F(HungShareTest, RootOfAHungShareIsAnsweredFromWhatIsKnown) {
  start(2);
  touch_remote(2);
  hang(0);
  hang(1);
  Callers lookers;
  for (int i = 0; i < 3; ++i) {
    lookers.add([this] { return look_at(in("r0")); });
    lookers.add([this] {
      char list[100];
      return ::lgetxattr(in("r1").c_str(), "system.posix_acl_access", list, sizeof list) < 0 && errno == ENODATA ? 0
                                                                                                                 : EIO;
    });
    lookers.add([this] {
      const std::string directory = server_.namespace_path();
      ::execlp("sh", "sh", "-c", "ls -l \"$0\" && find \"$0\" -maxdepth 1 -newermt 2000-01-01", directory.c_str(),
               nullptr);
      return 255;
    });
  }
  EXPECT_TRUE(lookers.all_end());
  EXPECT_EQ(lookers.ended_with(0), 9U);
}

TEST_F(HungShareTest, RequestsOnAnOpenFileAreTheCallersAndNotThoseOfAnEarlierCaller) {
  ASSERT_TRUE(
      ok(server_.write_file(server_.make_directory("own").substr(server_.directory().size() + 1) + "/file", "text")));
  // Without allow_other the kernel lets the user that has mounted it ask alone.
  start(1, "[share.own]\ntype = \"fuse.sshfs\"\nsource = \"root@host-own:" + server_.path("own") +
               "\"\noptions = \"cache=no,attr_timeout=0,entry_timeout=0,ssh_command=" + server_.path("pipe") +
               "\"\nattr_timeout = \"0\"\n");
  const UniqueFd file(::open(in("own/file").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd directory(::open(in("own").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(file && directory);
  for (int round = 0; round < 50; ++round) {
    Callers others;
    others.add([this] { return read_one(in("h0/file")); }, kUser, 8);
    ASSERT_TRUE(others.all_end());
    char text[16];
    EXPECT_EQ(::lseek(file.get(), 0, SEEK_END), 4) << errno_name(errno);
    EXPECT_EQ(::pread(file.get(), text, sizeof text, 0), 4) << errno_name(errno);
    EXPECT_EQ(::fsync(file.get()), 0) << errno_name(errno);
    ASSERT_FALSE(HasFailure());
  }
  Callers heir;
  heir.add([&] { return ::lseek(file.get(), 0, SEEK_END) == 4 ? 0 : errno; }, kUser);
  EXPECT_TRUE(heir.all_end());
  EXPECT_EQ(heir.ended_with(0), 1U) << "the file is open, which is permission enough";
}

/// How much the pages of the namespace may be dirty where the kernel's own bound for FUSE holds (1 %), at most.
std::size_t most_dirty_bytes() {
  std::ifstream lines("/proc/meminfo");
  std::size_t kilobytes = 0;
  for (std::string name, rest; lines >> name >> kilobytes && std::getline(lines, rest) && name != "MemAvailable:";) {
  }
  std::size_t percent = 0;
  std::ifstream("/proc/sys/vm/dirty_ratio") >> percent;
  return kilobytes * 1024 / 100 * percent / 100;
}

/// A file that is mapped, with all pages read.
class ReadMapping {
 public:
  ReadMapping(const std::string& path, std::size_t size) : size_(size) {
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0) return;
    void* const bytes = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
    if (bytes != MAP_FAILED) bytes_ = static_cast<volatile char*>(bytes);
    for (std::size_t at = 0; bytes_ != nullptr && at < size_; at += kPage) sum_ += bytes_[at];
  }
  [[nodiscard]] bool is_there() const noexcept { return bytes_ != nullptr; }
  /// Returns when the kernel lets it.
  void write() const {
    for (std::size_t at = 0; at < size_; at += kPage) bytes_[at] = 1;
  }

 private:
  static constexpr std::size_t kPage = 4096;
  std::size_t size_;
  volatile char* bytes_ = nullptr;
  int sum_ = 0;
};

TEST_F(HungShareTest, WriterOfAMappingGoesOnBesideTheDirtyPagesOfAnotherShare) {
  if (::access("/sys/class/bdi", W_OK) != 0) GTEST_SKIP() << "takes a /sys that can be written to";
  const std::size_t most = most_dirty_bytes();
  start(2);
  touch_remote(2);
  std::array<int, 2> ready{};
  ASSERT_EQ(::pipe2(ready.data(), O_CLOEXEC), 0);
  const UniqueFd told(ready[0]);
  const UniqueFd tells(ready[1]);
  std::array<int, 2> go{};
  ASSERT_EQ(::pipe2(go.data(), O_CLOEXEC), 0);
  UniqueFd goes(go[1]);
  const UniqueFd waits(go[0]);
  const auto writer = [&](const std::string& file, std::size_t size) {
    const ReadMapping mapping(file, size);
    char byte = 0;
    if (!mapping.is_there() || ::write(tells.get(), "r", 1) != 1) return EIO;
    goes.reset();
    if (::read(waits.get(), &byte, 1) != 0) return EIO;
    mapping.write();
    // The end of the mapping waits for what is written back (fuse_vma_close()).
    if (::write(tells.get(), "w", 1) != 1) return EIO;
    ::pause();
    return 0;
  };
  Callers hungry;
  hungry.add([&] { return writer(in("r0/mapped"), 2 * most); });
  char byte = 0;
  ASSERT_EQ(::read(told.get(), &byte, 1), 1);
  hang(0);
  goes.reset();
  const auto has_told = [&] {
    pollfd watched{told.get(), POLLIN, 0};
    return eventually([&] { return ::poll(&watched, 1, 0) == 1; }) && ::read(told.get(), &byte, 1) == 1;
  };
  EXPECT_TRUE(has_told()) << "as a writer of a mapping on NFS";
  Callers other;
  other.add([&] { return writer(in("r1/mapped"), std::max<std::size_t>(most / 2, 1U << 20U)); });
  EXPECT_TRUE(has_told()) << "it begins";
  EXPECT_TRUE(has_told()) << "and ends: the server of its share answers";
  go_on(0);
  hungry.kill(SIGKILL);
  other.kill(SIGKILL);
  EXPECT_TRUE(hungry.all_end());
  EXPECT_TRUE(other.all_end());
}

/// The kernel locks the pages of a read-ahead until it is answered, and write(2) waits for that lock unkillably.
TEST_F(HungShareTest, WriterOfPagesThatAProgramReadAheadBeforeItEndedCanBeKilled) {
  constexpr off_t kPages = 64;
  constexpr off_t kPage = 4096;
  start(1);
  touch_remote(1);
  const UniqueFd file(::open(in("r0/ahead").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_TRUE(file && ::ftruncate(file.get(), kPages * kPage) == 0);
  hang(0);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd told(ends[0]);
  const UniqueFd tells(ends[1]);
  Callers reader;
  reader.add([&] {
    if (::readahead(file.get(), 0, kPages * kPage) != 0 || ::write(tells.get(), "r", 1) != 1) return EIO;
    return ::pause();
  });
  char byte = 'x';
  ASSERT_EQ(::read(told.get(), &byte, 1), 1);
  Callers writers;
  for (off_t page = 0; page < kPages; page += 16) {
    writers.add([&, page] { return code(::pwrite(file.get(), "w", 1, page * kPage + 100) == 1); });
  }
  EXPECT_TRUE(writers.all_wait());
  reader.kill(SIGKILL);
  EXPECT_TRUE(reader.all_end());
  writers.kill(SIGKILL);
  EXPECT_TRUE(writers.all_end());
  go_on(0);
  EXPECT_EQ(::pread(file.get(), &byte, 1, 5), 1);
  EXPECT_EQ(byte, '\0');
}

/// What getdents64(2) answers, -1 with errno set for an error.
long read_names(int directory) {
  std::array<char, 4096> names{};
  return ::syscall(SYS_getdents64, directory, names.data(), names.size());
}

TEST_F(HungShareTest, DirectoryIsReadOnAfterACallThatWasInterrupted) {
  start(1);
  touch_remote(1);
  int pipes[2];
  ASSERT_EQ(::pipe2(pipes, O_CLOEXEC), 0);
  const UniqueFd read_end(pipes[0]);
  const UniqueFd write_end(pipes[1]);
  const UniqueFd directory(::open(in("r0").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(directory);
  hang(0);
  Callers reader;
  reader.add([&] {
    struct sigaction handled {};
    handled.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &handled, nullptr);
    for (int i = 0; i < 3; ++i) {
      if (read_names(directory.get()) >= 0 || errno != EINTR) return errno;
      if (::write(write_end.get(), "i", 1) != 1) return EIO;
    }
    return read_names(directory.get()) > 0 ? 0 : errno;
  });
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(reader.all_wait());
    reader.kill(SIGUSR1);
    char byte = 0;
    ASSERT_EQ(::read(read_end.get(), &byte, 1), 1);
  }
  EXPECT_TRUE(reader.all_wait()) << "as any call on a share that does not answer";
  go_on(0);
  EXPECT_TRUE(reader.all_end());
  EXPECT_EQ(reader.ended_with(0), 1U);
}

TEST_F(HungShareTest, ForceAnswersAllWhoWaitAndTheNextAccessMountsAgain) {
  start(1);
  touch_remote(1);
  hang(0);
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/file")); }, kUser, kMany);
  ASSERT_TRUE(stuck.all_wait());
  Callers force;
  force.add([this] { return server_.write_control("shares/r0/control", "force-unmount") ? 0 : EIO; });
  EXPECT_TRUE(force.all_end());
  EXPECT_EQ(force.ended_with(0), 1U);
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(read_one(in("r0/file")), 0);
  EXPECT_EQ(server_.state("r0"), "mounted");
}

TEST_F(HungShareTest, ForceAnswersAllWhoWaitForAMountThatDoesNotEnd) {
  start(0, "[share.slow]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"exec sleep 1000\", \"{mountpoint}\"]\n");
  Callers waiting;
  waiting.add([this] { return look_at(in("slow/file")); }, kUser, 50);
  ASSERT_TRUE(server_.wait_for_state("slow", "mounting"));
  ASSERT_TRUE(waiting.all_wait());
  const Result<> asked = server_.write_control("shares/slow/control", "unmount");
  EXPECT_TRUE(!asked && asked.error().code() == EBUSY);
  EXPECT_TRUE(ok(server_.write_control("shares/slow/control", "force-unmount")));
  EXPECT_TRUE(waiting.all_end());
  // A caller whose request is read only afterwards is told that the mount takes too long.
  EXPECT_GT(waiting.ended_with(ECONNABORTED << 8), 0U);
  EXPECT_EQ(waiting.ended_with(ECONNABORTED << 8) + waiting.ended_with(ETIMEDOUT << 8), 50U);
  EXPECT_EQ(server_.state("slow"), "failed");
  // The attempt has been ended, so that nothing is in the way of the next one.
  Callers next;
  next.add([this] {
    for (int told = ECONNABORTED; told == ECONNABORTED || told == ETIMEDOUT;) told = look_at(in("slow/file"));
    return EIO;
  });
  EXPECT_TRUE(server_.wait_for_state("slow", "mounting"));
  next.kill(SIGKILL);
  EXPECT_TRUE(ok(server_.write_control("shares/slow/control", "force-unmount")));
}

TEST_F(HungShareTest, WordThatWaitsHoldsUpNoOtherWord) {
  const std::vector<int> ways{0, O_TRUNC | O_CREAT, O_APPEND, O_APPEND | O_CREAT | O_TRUNC};
  std::string shares;
  for (std::size_t i = 0; i < 2 * ways.size(); ++i) {
    shares += "[share.slow" + std::to_string(i) +
              "]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"exec sleep 1000\", \"{mountpoint}\"]\n";
  }
  start(0, shares);
  for (std::size_t i = 0; i < 2 * ways.size(); ++i) {
    const int flags = ways[i / 2];
    const bool with_kill = i % 2 != 0;
    SCOPED_TRACE(std::to_string(flags) + (with_kill ? ", after kill -9" : ""));
    const std::string share = "slow" + std::to_string(i);
    const std::string control = in(".berth/shares/" + share + "/control");
    const auto write_word = [&](const char* word) {
      const int file = ::open(control.c_str(), O_WRONLY | flags, 0600);
      return code(file >= 0 && ::write(file, word, std::strlen(word)) > 0 && ::close(file) == 0);
    };
    Callers waiting;
    waiting.add([&] { return write_word("mount"); });
    ASSERT_TRUE(server_.wait_for_state(share, "mounting")) << "the word is being obeyed";
    if (with_kill) {
      const pid_t before = server();
      ASSERT_EQ(::kill(before, SIGKILL), 0);
      ASSERT_TRUE(eventually([&] { return server() != before && server() != 0; }));
      ASSERT_TRUE(server_.wait_for_state(share, "mounting"));
    }
    Callers force;
    force.add([&] { return write_word("force-unmount"); });
    EXPECT_TRUE(force.all_end());
    EXPECT_EQ(force.ended_with(0), 1U);
    EXPECT_TRUE(waiting.all_end());
    struct stat attributes {};
    struct stat again {};
    ASSERT_EQ(::stat(control.c_str(), &attributes), 0);
    ASSERT_EQ(::stat(control.c_str(), &again), 0);
    EXPECT_EQ(attributes.st_size, 0);
    EXPECT_EQ(attributes.st_ino, again.st_ino);
  }
}

TEST_F(HungShareTest, ForceEndsAnUnmountProgramThatDoesNotEnd) {
  const auto share_with = [](const std::string& name, const std::string& unmount) {
    return "[share." + name +
           "]\ntype = \"command\"\nmount = [\"mount\", \"-t\", \"tmpfs\", \"tmpfs\", \"{mountpoint}\"]\n" +
           "unmount = [\"sh\", \"-c\", \"" + unmount + "\", \"{mountpoint}\"]\n";
  };
  start(0, share_with("slow", "exec sleep 1000") + share_with("stubborn", "trap '' TERM; sleep 1000; sleep 1000"));
  for (const std::string share : {"slow", "stubborn"}) {
    const std::string control = "shares/" + share + "/control";
    ASSERT_EQ(look_at(in(share + "/file")), ENOENT);
    Callers unmount;
    unmount.add([&] { return server_.write_control(control, "unmount") ? 0 : EIO; });
    ASSERT_TRUE(server_.wait_for_state(share, "expiring"));
    Callers waiting;
    // Each at a name of its own: the kernel asks about one name once.
    waiting.add([&] { return look_at(in(share + "/" + std::to_string(::getpid()))); }, kUser, 50);
    ASSERT_TRUE(
        eventually([&] { return server_.read_json("shares/" + share + "/status.json").value("waiting", 0) == 50; }));
    EXPECT_TRUE(ok(server_.write_control(control, "force-unmount")));
    EXPECT_EQ(server_.state(share), "idle");
    EXPECT_TRUE(unmount.all_end());
    EXPECT_EQ(unmount.ended_with(0), 1U) << "what was asked for is done";
    EXPECT_TRUE(waiting.all_end());
    EXPECT_EQ(waiting.ended_with(ECONNABORTED << 8), 50U);
    EXPECT_EQ(look_at(in(share + "/file")), ENOENT) << "mounted again";
    EXPECT_TRUE(ok(server_.write_control(control, "force-unmount")));
  }
}

TEST_F(HungShareTest, ProgramThatEndsWithOpenFilesOfAHungShareEnds) {
  start(1);
  touch_remote(1);
  int pipes[2];
  ASSERT_EQ(::pipe2(pipes, O_CLOEXEC), 0);
  Callers writer;
  writer.add([&] {
    const int fd = ::open(in("r0/dirty").c_str(), O_RDWR | O_CREAT, 0644);
    if (fd < 0 || ::write(pipes[1], "o", 1) != 1) return 1;
    // Stopped and continued by the test, with the server hung from then on.
    ::raise(SIGSTOP);
    if (::pwrite(fd, "text", 4, 0) != 4) return 2;
    ::raise(SIGKILL);
    return 3;
  });
  char byte = 0;
  ASSERT_EQ(::read(pipes[0], &byte, 1), 1);
  hang(0);
  ASSERT_TRUE(eventually([&] {
    writer.kill(SIGCONT);
    return writer.running() == 0;
  }));
  EXPECT_EQ(writer.ended_with(SIGKILL), 1U);
  ::close(pipes[0]);
  ::close(pipes[1]);
}

TEST_F(HungShareTest, ProgramWithThousandsOfOpenFilesOfAHungShareEnds) {
  constexpr int kFiles = 2000;
  start(1);
  touch_remote(1);
  int pipes[2];
  ASSERT_EQ(::pipe2(pipes, O_CLOEXEC), 0);
  Callers holder;
  holder.add([&] {
    const int file = ::open(in("r0/file").c_str(), O_RDWR);
    for (int i = 0; i < kFiles; ++i) {
      if (::fcntl(file, F_DUPFD, 0) < 0) return 1;
    }
    if (::write(pipes[1], "o", 1) != 1) return 2;
    ::raise(SIGSTOP);
    return 0;
  });
  char byte = 0;
  ASSERT_EQ(::read(pipes[0], &byte, 1), 1);
  hang(0);
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/other")); }, kUser, 60);
  ASSERT_TRUE(stuck.all_wait());
  EXPECT_TRUE(eventually([&] {
    holder.kill(SIGCONT);
    return holder.running() == 0;
  }));
  EXPECT_EQ(holder.ended_with(0), 1U);
  go_on(0);
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(stuck.ended_with(ENOENT << 8), 60U);
  ::close(pipes[0]);
  ::close(pipes[1]);
}

TEST_F(HungShareTest, ShareThatDoesNotAnswerIsStalledUntilItDoes) {
  start(2, "stall_timeout = \"1s\"\n");
  touch_remote(2);
  hang(0);
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/file")); }, kUser, 3);
  ASSERT_TRUE(stuck.all_wait());
  ASSERT_TRUE(server_.wait_for_state("r0", "stalled"));

  const nlohmann::json status = server_.read_json("shares/r0/status.json");
  EXPECT_EQ(status["unanswered"].value("callers", 0), 3) << status;
  EXPECT_EQ(status["unanswered"].value("operation", ""), "LOOKUP") << status;
  const std::string text = server_.read_control("shares/r0/status").value_or("");
  EXPECT_NE(text.find("unanswered:   3 callers, the first in LOOKUP since"), std::string::npos) << text;
  EXPECT_EQ(server_.read_json("status.json")["counts"].value("stalled", 0), 1);
  const std::string users = server_.read_control("shares/r0/users").value_or("");
  EXPECT_NE(users.find("(waits)"), std::string::npos) << users;
  const std::string events = server_.read_control("events").value_or("");
  EXPECT_NE(events.find("stalled share=r0 reason=\"no answer for 1s; 3 callers wait, the first in LOOKUP\""),
            std::string::npos)
      << events;
  EXPECT_EQ(server_.state("r1"), "mounted");
  EXPECT_EQ(server_.state("h0"), "idle");

  go_on(0);
  EXPECT_TRUE(server_.wait_for_state("r0", "mounted"));
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(stuck.ended_with(0), 3U);
  EXPECT_NE(server_.read_control("events").value_or("").find("answers share=r0 took="), std::string::npos);
}

TEST_F(HungShareTest, ShareInUseIsFoundStalledThoughNothingIsAskedOfIt) {
  start(1, "stall_timeout = \"500ms\"\n");
  touch_remote(1);
  const UniqueFd open(::open(in("r0/file").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(open);
  hang(0);
  EXPECT_TRUE(server_.wait_for_state("r0", "stalled"));
  EXPECT_EQ(server_.read_json("shares/r0/status.json")["unanswered"].value("callers", -1), 0);
  // The next server finds it out anew.
  const pid_t before = server();
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return server() != before && server() != 0; }));
  EXPECT_TRUE(server_.wait_for_state("r0", "stalled"));
  go_on(0);
  EXPECT_TRUE(server_.wait_for_state("r0", "mounted"));
  char byte = 0;
  EXPECT_EQ(::pread(open.get(), &byte, 1, 0), 1);
}

TEST_F(HungShareTest, HelperThatStopsIsStalledAndCanBeForced) {
  start(1, "stall_timeout = \"500ms\"\n");
  touch_remote(1);
  const UniqueFd open(::open(in("r0/file").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(open);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  stop_process(helper(0));
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/other")); }, kUser, 10);
  ASSERT_TRUE(stuck.all_wait());
  ASSERT_TRUE(server_.wait_for_state("r0", "stalled"));
  EXPECT_TRUE(ok(server_.write_control("shares/r0/control", "force-unmount")));
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(read_one(in("r0/file")), 0);
  EXPECT_EQ(server_.state("r0"), "mounted");
}

TEST_F(HungShareTest, HelperIsNotTheFirstToBeKilledForWantOfMemory) {
  start(1);
  for (int i = 0; i < 10; ++i) {
    touch_remote(1);
    if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
    std::ifstream score("/proc/" + std::to_string(helper(0)) + "/oom_score_adj");
    int value = -1;
    EXPECT_TRUE(score >> value);
    EXPECT_EQ(value, 0);
    ASSERT_TRUE(ok(server_.write_control("shares/r0/control", "unmount")));
  }
}

TEST_F(HungShareTest, RequestThatChangesNothingIsTimedOutAndNoOther) {
  start(1, "", "request_timeout = \"300ms\"\n");
  touch_remote(1);
  const UniqueFd open(::open(in("r0/file").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(open);
  hang(0);
  Callers changes;
  changes.add([this] { return code(::mkdir(in("r0/made").c_str(), 0755) == 0); });
  changes.add([this] { return code(::truncate(in("r0/file").c_str(), 3) == 0); });
  changes.add([this] { return code(::open(in("r0/file").c_str(), O_WRONLY | O_TRUNC) >= 0); });
  Callers readers;
  readers.add([this] { return look_at(in("r0/other")); }, kUser, 20);
  readers.add([&] {
    char byte = 0;
    return code(::pread(open.get(), &byte, 1, 0) == 1);
  });
  readers.add([this] { return code(::opendir(in("r0").c_str()) != nullptr); });
  EXPECT_TRUE(readers.all_end());
  EXPECT_EQ(readers.ended_with(ETIMEDOUT << 8), 22U);
  go_on(0);
  EXPECT_TRUE(changes.all_end());
  // The look-up of a name changes nothing, so that a call which changes something may be timed out before it has begun.
  EXPECT_EQ(changes.ended_with(0) + changes.ended_with(ETIMEDOUT << 8), 3U);
  EXPECT_EQ(look_at(in("r0/file")), 0);
}

TEST_F(HungShareTest, ErrorOfAWriteWhoseCallerHasGoneIsToldAtFsync) {
  const std::string full = server_.make_directory("full");
  ASSERT_EQ(::mount("tmpfs", full.c_str(), "tmpfs", 0, "size=64k,mode=777"), 0) << errno_name(errno);
  ASSERT_TRUE(ok(server_.write_file("full/file", "")));
  ASSERT_TRUE(ok(server_.write_file("full/rest", std::string(60 << 10, 'x'))));
  start(1, "[share.full]\ntype = \"fuse.sshfs\"\nsource = \"root@host-r0:" + full +
               "\"\noptions = \"allow_other,cache=no,sshfs_sync,ssh_command=" + server_.path("pipe") + "\"\n");
  UniqueFd file(::open(in("full/file").c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  hang(0);
  Callers writers;
  writers.add([&] { return code(::pwrite(file.get(), std::string(32 << 10, 'y').data(), 32 << 10, 0) == 32 << 10); });
  ASSERT_TRUE(writers.all_wait());
  writers.kill(SIGKILL);
  ASSERT_TRUE(writers.all_end());
  go_on(0);
  EXPECT_TRUE(eventually([&] { return ::fsync(file.get()) != 0 && errno == EIO; }));
  EXPECT_EQ(::fsync(file.get()), 0) << "it is told once: " << errno_name(errno);
  file.reset();
  EXPECT_TRUE(eventually([this] { return server_.write_control("shares/full/control", "unmount").has_value(); }));
  EXPECT_EQ(::umount2(full.c_str(), MNT_DETACH), 0) << errno_name(errno);
}

// What a stuck thread brings after its caller has gone is dropped.
TEST_F(HungShareTest, NothingIsLeftOfWhatWasGivenUp) {
  start(1);
  touch_remote(1);
  ASSERT_TRUE(ok(server_.write_control("shares/r0/control", "unmount")));
  for (const bool is_killed : {false, true}) {
    SCOPED_TRACE(is_killed);
    touch_remote(1);
    hang(0);
    Callers callers;
    callers.add([this] { return code(::open(in("r0/file").c_str(), O_RDONLY) >= 0); }, 0, 10);
    callers.add([this] { return code(::open(in("r0/made").c_str(), O_RDWR | O_CREAT, 0644) >= 0); }, 0, 10);
    callers.add([this] { return code(::opendir(in("r0").c_str()) != nullptr); }, 0, 10);
    ASSERT_TRUE(callers.all_wait());
    callers.kill(SIGKILL);
    ASSERT_TRUE(callers.all_end());
    if (is_killed) {
      const pid_t before = server();
      ASSERT_EQ(::kill(before, SIGKILL), 0);
      ASSERT_TRUE(eventually([&] { return server() != before && server() != 0; }));
    }
    go_on(0);
    ASSERT_EQ(look_at(in("r0/file")), 0);
    // No process holds it.
    EXPECT_TRUE(eventually([this] { return server_.write_control("shares/r0/control", "unmount").has_value(); }));
    EXPECT_TRUE(eventually([this] { return server_.read_control("shares/r0/users").value_or("?").empty(); }));
  }
}

TEST_F(HungShareTest, CallersOfAHungShareOutliveAKilledServer) {
  start(1);
  touch_remote(1);
  hang(0);
  Callers stuck;
  stuck.add([this] { return read_one(in("r0/file")); }, kUser, 100);
  ASSERT_TRUE(stuck.all_wait());
  const pid_t before = server();
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return server() != before && server() != 0; }));
  EXPECT_EQ(read_one(in("h0/file")), 0);
  stuck.add([this] { return read_one(in("r0/file")); }, kUser, 100);
  ASSERT_TRUE(stuck.all_wait());
  go_on(0);
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(stuck.ended_with(0), 200U);
}

TEST_F(HungShareTest, DeathOfTheKeeperAndTheServerIsToldToAllCallersAtOnce) {
  start(2);
  touch_remote(2);
  hang(0);
  hang(1);
  Callers stuck;
  stuck.add([this] { return read_one(in("r0/file")); }, kUser, 20);
  stuck.add([this] { return read_one(in("r1/file")); }, kUser, 20);
  ASSERT_TRUE(stuck.all_wait());
  server_.leave_dead_namespace();
  const auto began = std::chrono::steady_clock::now();
  const pid_t keeper = server_.pid();
  ASSERT_EQ(::kill(server(), SIGKILL), 0);
  ASSERT_EQ(::kill(keeper, SIGKILL), 0);
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(look_at(in("h0/file")), ENOTCONN);
  // The first process waits so long for a server that lives.
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));
  EXPECT_NE(server_.stop(0), Ending{});
  while (::umount2(server_.namespace_path().c_str(), MNT_DETACH) == 0) {
  }
}

TEST_F(HungShareTest, StoppingTakesNoLongerThanItMay) {
  start(5, "stop_timeout = \"2s\"\n");
  touch_remote(5);
  for (int i = 0; i < 5; ++i) hang(i);
  Callers stuck;
  for (int i = 0; i < 5; ++i)
    stuck.add([this, i] { return look_at(in("r" + std::to_string(i) + "/file")); }, kUser, 50);
  ASSERT_TRUE(stuck.all_wait());
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(server_.stop().signal, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(8));
  EXPECT_TRUE(stuck.all_end());
}

}  // namespace
}  // namespace berth::test
