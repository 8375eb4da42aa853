// Shares whose servers do not answer: callers that wait in them can be killed, and no other caller notices.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
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

constexpr std::size_t kBig = std::size_t{2} << 20;

std::string big_text() {
  std::string text(kBig, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i / 4096 % 26);
  return text;
}

constexpr std::time_t kLongAgo = 1'000'000'000;

/// Seconds since the epoch; sshfs tells no less.
void set_time(const std::string& path, std::time_t seconds) {
  const timespec times[2]{{seconds, 0}, {seconds, 0}};
  EXPECT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0) << path << ": " << errno_name(errno);
}

/// Reads from `fd` in pieces to the end; answers an errno value, or -1 for other bytes than big_text()'s.
int read_rest(int fd, std::size_t from, const std::function<void(std::size_t)>& between = {}) {
  const std::string expected = big_text();
  std::string piece(64 << 10, '\0');
  while (from < kBig) {
    if (between) between(from);
    const ssize_t got = ::pread(fd, piece.data(), piece.size(), static_cast<off_t>(from));
    if (got <= 0) return got < 0 ? errno : -1;
    if (expected.compare(from, static_cast<std::size_t>(got), piece, 0, static_cast<std::size_t>(got)) != 0) return -1;
    from += static_cast<std::size_t>(got);
  }
  return 0;
}

TEST_F(HungShareTest, ReaderGoesOnWhenTheHelperIsKilled) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  set_time(server_.path("far0/big"), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  std::size_t kills = 0;
  EXPECT_EQ(read_rest(file.get(), 0,
                      [&](std::size_t at) {
                        if (at < (kills + 1) * (kBig / 4)) return;
                        ++kills;
                        kill_helper(0);
                      }),
            0);
  EXPECT_EQ(kills, 3U);
  struct stat attributes {};
  EXPECT_EQ(::fstat(file.get(), &attributes), 0) << errno_name(errno);
  EXPECT_EQ(attributes.st_size, static_cast<off_t>(kBig));
  kill_helper(0);
  EXPECT_EQ(::close(file.release()), 0) << errno_name(errno);
  EXPECT_EQ(read_one(in("r0/file")), 0);
  EXPECT_TRUE(eventually([this] { return server_.write_control("shares/r0/control", "unmount").has_value(); }));
}

/// tail -f asks for nothing else while the file does not grow.
TEST_F(HungShareTest, FileThatIsReadHasItsAttributesInTheNextMount) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  set_time(server_.path("far0/big"), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  for (const char* name : {"first", "second"})
    ASSERT_TRUE(ok(server_.write_file(std::string("far0/") + name, "it takes an inode number")));
  kill_helper(0);
  for (const char* name : {"r0/first", "r0/second"}) ASSERT_EQ(read_one(in(name)), 0);
  struct stat attributes {};
  EXPECT_EQ(::fstat(file.get(), &attributes), 0) << errno_name(errno);
  EXPECT_EQ(attributes.st_size, static_cast<off_t>(kBig));
}

TEST_F(HungShareTest, ReaderThatWaitsWhenTheHelperIsKilledGoesOn) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  set_time(server_.path("far0/big"), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  hang(0);
  Callers readers;
  readers.add([&] { return read_rest(file.get(), 0); }, 0, 10);
  ASSERT_TRUE(readers.all_wait());
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  EXPECT_TRUE(readers.all_end());
  EXPECT_EQ(readers.ended_with(0), 10U);
}

TEST_F(HungShareTest, ReaderGoesOnWhenHelperAndServerAreKilled) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  set_time(server_.path("far0/big"), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  kill_helper(0);
  EXPECT_EQ(read_rest(file.get(), 0), 0) << "opened again";
  const pid_t before = server();
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return server() != before && server() != 0; }));
  kill_helper(0);
  ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  EXPECT_EQ(read_rest(file.get(), 0), 0) << "and again by the next server";
}

TEST_F(HungShareTest, ReaderGoesOnWhenTheServerIsKilledBeforeTheNextMountIsMade) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  set_time(server_.path("far0/big"), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  const std::string pipe = server_.read_file("pipe").value_or("");
  ASSERT_TRUE(ok(server_.write_file("pipe", "#!/bin/sh\nexec sleep 1000\n")));
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  ASSERT_TRUE(server_.wait_for_state("r0", "mounting"));
  const pid_t before = server();
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return server() != before && server() != 0; }));
  ASSERT_TRUE(ok(server_.write_file("pipe", pipe)));
  EXPECT_EQ(read_rest(file.get(), 0), 0);
  EXPECT_EQ(::close(file.release()), 0) << errno_name(errno);
  EXPECT_TRUE(eventually([this] { return server_.write_control("shares/r0/control", "unmount").has_value(); }));
}

TEST_F(HungShareTest, OpenFileIsOpenedAgainOnlyWhereItIsTheSameAndWasOnlyRead) {
  start(1);
  for (const char* name : {"far0/big", "far0/replaced", "far0/removed"})
    ASSERT_TRUE(ok(server_.write_file(name, big_text())));
  for (const char* name : {"far0/big", "far0/replaced", "far0/removed"}) set_time(server_.path(name), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd replaced(::open(in("r0/replaced").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd removed(::open(in("r0/removed").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd writer(::open(in("r0/big").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(replaced && removed && writer);
  ASSERT_TRUE(ok(server_.write_file("far0/replaced", "another one")));
  ASSERT_EQ(::unlink(server_.path("far0/removed").c_str()), 0);
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  EXPECT_EQ(read_rest(replaced.get(), kBig / 2), EIO);
  EXPECT_EQ(read_rest(removed.get(), kBig / 2), EIO);
  EXPECT_EQ(read_rest(writer.get(), kBig / 2), EIO);
  EXPECT_TRUE(::pwrite(writer.get(), "x", 1, 0) < 0 && errno == EIO) << errno_name(errno);
  EXPECT_EQ(read_one(in("r0/big")), 0) << "what is opened now is in the next mount";
}

/// FUSE keeps the inode of a path, and has the attributes of whichever file was looked up there last.
TEST_F(HungShareTest, ReaderIsNotGivenAFileThatTookTheNameThoughTheKernelKnowsItBySize) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  ASSERT_TRUE(ok(server_.write_file("far0/other", std::string(kBig, '#'))));
  set_time(server_.path("far0/big"), kLongAgo);
  set_time(server_.path("far0/other"), kLongAgo + 1);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  ASSERT_EQ(::rename(server_.path("far0/other").c_str(), server_.path("far0/big").c_str()), 0);
  struct stat attributes {};
  ASSERT_EQ(::stat(in("r0/big").c_str(), &attributes), 0) << errno_name(errno);
  ASSERT_EQ(attributes.st_mtime, kLongAgo + 1) << "the kernel knows the other one";
  kill_helper(0);
  EXPECT_EQ(read_rest(file.get(), 0), EIO);
}

TEST_F(HungShareTest, ReaderIsNotGivenAFileOfTheSameSizeAndSecond) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  ASSERT_TRUE(ok(server_.write_file("far0/other", std::string(kBig, '#'))));
  const std::time_t now = std::time(nullptr);
  set_time(server_.path("far0/big"), now);
  set_time(server_.path("far0/other"), now);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  ASSERT_EQ(::rename(server_.path("far0/other").c_str(), server_.path("far0/big").c_str()), 0);
  kill_helper(0);
  EXPECT_EQ(read_rest(file.get(), 0), EIO);
}

TEST_F(HungShareTest, WriterGoesOnWhereFilesAreAlwaysOpenedAgain) {
  start(1, "", "reopen = \"always\"\n");
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  set_time(server_.path("far0/big"), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd writer(::open(in("r0/big").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(writer);
  kill_helper(0);
  EXPECT_EQ(::pwrite(writer.get(), "AAAA", 4, 4096), 4) << errno_name(errno);
  EXPECT_EQ(::fsync(writer.get()), 0) << errno_name(errno);
  EXPECT_EQ(server_.read_file("far0/big").value_or("").size(), std::min<std::size_t>(kBig, 1 << 20));
}

TEST_F(HungShareTest, NoFileIsOpenedAgainWhereThatIsForbidden) {
  start(1, "", "reopen = \"never\"\n");
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  set_time(server_.path("far0/big"), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  kill_helper(0);
  EXPECT_EQ(read_rest(file.get(), kBig / 2), EIO);
}

TEST_F(HungShareTest, ShareInUseIsMountedAgainByItselfWhenTheHelperIsKilled) {
  start(1);
  ASSERT_EQ(::mkdir(in(".berth/shares/r0/attachments/vm").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(in(".berth/shares/r0/attachments/vm/disk").c_str(), 0755), 0);
  const pid_t before = helper(0);
  if (before == 0) GTEST_SKIP() << kNoHelper;
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return server_.state("r0") == "mounted" && helper(0) != before && helper(0) != 0; }));
}

TEST_F(HungShareTest, DeadMountIsAnErrorUntilRetryWhereThePolicySaysSo) {
  start(1, "", "on_stale = \"error\"\n");
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  kill_helper(0);
  ASSERT_TRUE(server_.wait_for_state("r0", "failed"));
  EXPECT_EQ(read_one(in("r0/file")), ESTALE);
  EXPECT_NE(server_.read_control("shares/r0/error").value_or("").find("retry"), std::string::npos);
  ASSERT_TRUE(ok(server_.write_control("shares/r0/control", "retry")));
  EXPECT_EQ(read_one(in("r0/file")), 0);
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
