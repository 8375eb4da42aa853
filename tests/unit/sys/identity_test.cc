#include "src/lib/sys/identity.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <latch>
#include <thread>

#include "src/lib/sys/file.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/task_pool.h"
#include "tests/unit/eventually.h"
#include "tests/unit/temporary_directory.h"

namespace berth::sys {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uid_t kUser = 65534;
constexpr uid_t kOtherUser = 64321;
constexpr gid_t kGroup = 65534;
constexpr gid_t kTeam = 61234;

std::vector<gid_t> own_groups() {
  std::vector<gid_t> groups(256);
  const long count = ::syscall(SYS_getgroups, groups.size(), groups.data());
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

/// A process of another user, as a caller of berth would be.
class Caller {
 public:
  /// `unshared`: a namespace of its own, for unshare(2).
  Caller(uid_t uid, gid_t gid, const std::vector<gid_t>& groups, std::uint32_t capabilities = 0, int unshared = 0) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
    line_.reset(ends[0]);
    pid_ = ::fork();
    if (pid_ == 0) {
      const bool done = ::prctl(PR_SET_KEEPCAPS, 1) == 0 && ::setgroups(groups.size(), groups.data()) == 0 &&
                        ::setresgid(gid, gid, gid) == 0 && ::setresuid(uid, uid, uid) == 0 && limit(capabilities) &&
                        (unshared == 0 || ::unshare(unshared) == 0);
      serve(ends[1], done);
    }
    ::close(ends[1]);
    ready_ = answer() != 0;
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;
  ~Caller() { end(); }

  /// False: it could not become what it was to be.
  [[nodiscard]] bool ready() const { return ready_; }
  /// Has this supplementary group alone from now on. It takes CAP_SETGID.
  void change_group(gid_t group) {
    ASSERT_EQ(::send(line_.get(), &group, sizeof group, 0), static_cast<ssize_t>(sizeof group));
    ASSERT_EQ(answer(), 1);
  }

  void end() {
    if (pid_ == 0) return;
    const AsDaemon as_daemon;  // the test may act as a user that must not
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  static bool limit(std::uint32_t capabilities) {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    const std::array<__user_cap_data_struct, 2> data{{{capabilities, capabilities, 0}, {}}};
    return ::syscall(SYS_capset, &header, data.data()) == 0;
  }
  [[noreturn]] static void serve(int line, bool done) {
    gid_t group = 0;
    do {
      const char told = done ? 1 : 0;
      if (::send(line, &told, 1, MSG_NOSIGNAL) != 1) break;
      if (::recv(line, &group, sizeof group, 0) <= 0) break;
      // The C library's wrapper waits for all threads, of which ThreadSanitizer has one.
      done = ::syscall(SYS_setgroups, 1, &group) == 0;
    } while (true);
    ::_exit(0);
  }
  int answer() {
    char byte = 0;
    if (::recv(line_.get(), &byte, 1, 0) != 1) std::abort();
    return byte;
  }

  UniqueFd line_;
  pid_t pid_ = 0;
  bool ready_ = false;
};

class IdentityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "acting for others needs root";
  }
  void TearDown() override { assume_daemon(); }

  /// A file in a directory that every user may enter.
  std::string make_file(const std::string& name, uid_t owner, gid_t group, mode_t mode) {
    const std::string path = directory_ / name;
    std::ofstream(path) << name;
    EXPECT_EQ(::chown(path.c_str(), owner, group), 0);
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  /// 0, or the errno of the attempt.
  static int try_open(const std::string& path) {
    const auto fd = open_at(AT_FDCWD, path.c_str(), O_RDONLY);
    return fd ? 0 : fd.error().code();
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(IdentityTest, PermissionsAreTheCallers) {
  const std::string roots = make_file("roots", 0, 0, 0600);
  const std::string users = make_file("users", kUser, kGroup, 0600);
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup}));
  EXPECT_EQ(try_open(roots), EACCES);
  EXPECT_EQ(try_open(users), 0);
  EXPECT_EQ(::unlink(roots.c_str()), -1);
  assume_daemon();
  EXPECT_EQ(try_open(roots), 0);
}

TEST_F(IdentityTest, WhatIsMadeBelongsToTheCaller) {
  ASSERT_EQ(::chmod(directory_.path().c_str(), 01777), 0);
  ASSERT_TRUE(assume({.uid = kOtherUser, .gid = kTeam}));
  ASSERT_EQ(::mkdir((directory_ / "made").c_str(), 0700), 0);
  assume_daemon();
  const auto made = stat_at(AT_FDCWD, (directory_ / "made").c_str(), STATX_UID | STATX_GID);
  EXPECT_EQ(made->stx_uid, kOtherUser);
  EXPECT_EQ(made->stx_gid, kTeam);
}

TEST_F(IdentityTest, SupplementaryGroupsAreTheCallers) {
  const std::string teams = make_file("teams", 0, kTeam, 0640);
  const Caller member(kUser, kGroup, {kTeam});
  const Caller stranger(kOtherUser, kGroup, {});
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup, .pid = member.pid()}));
  EXPECT_EQ(try_open(teams), 0);
  EXPECT_THAT(own_groups(), ElementsAre(kTeam));
  ASSERT_TRUE(assume({.uid = kOtherUser, .gid = kGroup, .pid = stranger.pid()}));
  EXPECT_EQ(try_open(teams), EACCES);
  EXPECT_THAT(own_groups(), IsEmpty());
}

TEST_F(IdentityTest, RootGetsNoGroupsOfTheCallerBefore) {
  const Caller member(kUser, kGroup, {kTeam});
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup, .pid = member.pid()}));
  ASSERT_TRUE(assume({.uid = 0, .gid = kOtherUser, .pid = ::getpid()}));
  EXPECT_THAT(own_groups(), IsEmpty());
  EXPECT_EQ(::syscall(SYS_getegid), kOtherUser);
  EXPECT_EQ(::syscall(SYS_geteuid), 0);
}

TEST_F(IdentityTest, TheDaemonGetsItsOwnGroupsBack) {
  const std::vector<gid_t> before = own_groups();
  const Caller member(kUser, kGroup, {kTeam});
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup, .pid = member.pid()}));
  ASSERT_NE(own_groups(), before);
  assume_daemon();
  EXPECT_EQ(own_groups(), before);
  EXPECT_EQ(::syscall(SYS_getegid), ::getgid());
}

TEST_F(IdentityTest, ANumberThatIsSomebodyElsesNowGivesNoGroups) {
  const Caller member(kUser, kGroup, {kTeam});
  EXPECT_THAT(groups_of({.uid = kOtherUser, .gid = kGroup, .pid = member.pid()}), IsEmpty());
  constexpr gid_t kOtherGroup = 61235;
  EXPECT_THAT(groups_of({.uid = kUser, .gid = kOtherGroup, .pid = member.pid()}), ElementsAre(kOtherGroup))
      << "the user database is asked, which does not know of the team";
}

TEST_F(IdentityTest, WithoutANumberTheUserDatabaseIsAsked) {
  // What the C library says of the same user is the reference.
  std::vector<gid_t> expected(64);
  auto count = static_cast<int>(expected.size());
  ASSERT_GE(::getgrouplist("daemon", 1, expected.data(), &count), 1);
  expected.resize(static_cast<std::size_t>(count));
  EXPECT_EQ(groups_of({.uid = 1, .gid = 1, .pid = 0}), expected);
  EXPECT_THAT(groups_of({.uid = 4'000'000'000, .gid = 1, .pid = 0}), IsEmpty()) << "no database has this user";
}

TEST_F(IdentityTest, GroupsAreRememberedForATime) {
  Caller member(kUser, kGroup, {kTeam});
  const Identity identity{.uid = kUser, .gid = kGroup, .pid = member.pid()};
  EXPECT_THAT(groups_of(identity), ElementsAre(kTeam));
  member.end();
  // Within the time from memory, and when it is over from the user database.
  EXPECT_TRUE(testing::eventually([&] { return groups_of(identity) != std::vector<gid_t>{kTeam}; }));
}

TEST_F(IdentityTest, ManyCallersAreBorne) {
  for (uid_t uid = 100'000; uid < 103'000; ++uid) ASSERT_TRUE(assume({.uid = uid, .gid = uid, .pid = 0}));
  EXPECT_EQ(::syscall(SYS_geteuid), 102'999);
}

TEST_F(IdentityTest, AsDaemonIsForAScope) {
  const std::string roots = make_file("roots", 0, 0, 0600);
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup}));
  {
    const AsDaemon as_daemon;
    EXPECT_EQ(try_open(roots), 0);
    {
      const AsDaemon nested;
      EXPECT_EQ(try_open(roots), 0);
    }
    EXPECT_EQ(try_open(roots), 0);
  }
  EXPECT_EQ(try_open(roots), EACCES);
}

TEST_F(IdentityTest, OtherThreadsAreNotConcerned) {
  const std::string roots = make_file("roots", 0, 0, 0600);
  std::latch switched(1);
  std::latch tried(1);
  int in_other_thread = -1;
  std::thread other([&] {
    switched.wait();
    in_other_thread = try_open(roots);
    tried.count_down();
  });
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup}));
  switched.count_down();
  tried.wait();
  EXPECT_EQ(try_open(roots), EACCES);
  other.join();
  EXPECT_EQ(in_other_thread, 0);
}

TEST_F(IdentityTest, AThreadStartedMeanwhileCanComeBack) {
  const std::string roots = make_file("roots", 0, 0, 0600);
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup}));
  int inherited = -1;
  int as_daemon = -1;
  std::thread other([&] {
    inherited = try_open(roots);
    assume_daemon();
    as_daemon = try_open(roots);
  });
  other.join();
  EXPECT_EQ(inherited, EACCES);
  EXPECT_EQ(as_daemon, 0);
}

TEST_F(IdentityTest, PoolTasksAndProgramsRunAsTheDaemon) {
  const std::string roots = make_file("roots", 0, 0, 0600);
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup}));
  TaskPool pool("test", 1);
  std::array<int, 2> opened{-1, -1};
  pool.submit([&] {
    opened[0] = try_open(roots);
    static_cast<void>(assume({.uid = kUser, .gid = kGroup}));
  });
  pool.submit([&] { opened[1] = try_open(roots); });
  pool.drain();
  EXPECT_THAT(opened, ElementsAre(0, 0));
  const auto program = run({"id", "-u"}, testing::patience());
  ASSERT_TRUE(program) << program.error().message();
  EXPECT_EQ(program->output, "0\n");
  EXPECT_EQ(try_open(roots), EACCES) << "this thread is still the caller";
}

TEST_F(IdentityTest, DescriptorsCanBeReopenedAsTheCaller) {
  const std::string users = make_file("users", kUser, kGroup, 0600);
  const std::string roots = make_file("roots", 0, 0, 0600);
  const auto users_path = open_at(AT_FDCWD, users.c_str(), O_PATH);
  const auto roots_path = open_at(AT_FDCWD, roots.c_str(), O_PATH);
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup}));
  EXPECT_TRUE(reopen(users_path->get(), O_RDWR)) << "/proc/self/fd stays passable";
  EXPECT_EQ(reopen(roots_path->get(), O_RDONLY).error().code(), EACCES);
}

TEST_F(IdentityTest, CapabilitiesGoAndComeBack) {
  const auto effective = [] {
    const std::string status = read_file("/proc/thread-self/status", 1U << 16U).value();
    return status.substr(status.find("CapEff:") + 8, 16);
  };
  const std::string before = effective();
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup}));
  EXPECT_EQ(effective(), "0000000000000000");
  assume_daemon();
  EXPECT_EQ(effective(), before);
}

TEST_F(IdentityTest, CapabilitiesForFilesAreTheCallers) {
  const std::string roots = make_file("roots", 0, 0, 0600);
  const Caller reader(kUser, kGroup, {}, 1U << CAP_DAC_READ_SEARCH | 1U << CAP_KILL);
  const Caller stranger(kUser, kGroup, {});
  const Caller other(kOtherUser, kGroup, {});
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup, .pid = reader.pid()}));
  EXPECT_EQ(try_open(roots), 0);
  EXPECT_EQ(open_at(AT_FDCWD, roots.c_str(), O_WRONLY).error().code(), EACCES);
  EXPECT_EQ(::kill(other.pid(), 0), -1) << "what is not for files is not taken on";
  { const AsDaemon as_daemon; }
  EXPECT_EQ(try_open(roots), 0);
  { const AsBackingOpener as_lender; }
  EXPECT_EQ(try_open(roots), 0);
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup, .pid = stranger.pid()}));
  EXPECT_EQ(try_open(roots), EACCES);
}

TEST_F(IdentityTest, CapabilitiesOfAnotherUserNamespaceAreNotTakenOn) {
  const std::string roots = make_file("roots", 0, 0, 0600);
  const Caller reader(kUser, kGroup, {}, 0, CLONE_NEWUSER);
  if (!reader.ready()) GTEST_SKIP() << "users may make no user namespaces here";
  ASSERT_TRUE(assume({.uid = kUser, .gid = kGroup, .pid = reader.pid()}));
  EXPECT_EQ(try_open(roots), EACCES);
}

TEST_F(IdentityTest, WhoWasRefusedIsLookedAtAgain) {
  const std::string teams = make_file("teams", 0, kTeam, 0640);
  Caller member(kUser, kGroup, {}, 1U << CAP_SETGID);
  const Identity identity{.uid = kUser, .gid = kGroup, .pid = member.pid()};
  ASSERT_TRUE(assume(identity));
  EXPECT_FALSE(refresh_rights(identity));
  member.change_group(kTeam);
  EXPECT_TRUE(refresh_rights(identity));
  EXPECT_FALSE(refresh_rights(identity));
  ASSERT_TRUE(assume(identity));
  EXPECT_EQ(try_open(teams), 0);
}

TEST(IdentityWithoutPrivilege, OnlyTheOwnUserIsPossible) {
  // In a program of its own: what the daemon is, is learnt once.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        if (::geteuid() == 0 && ::setresuid(kUser, kUser, kUser) != 0) ::_exit(1);
        const Result<> own = assume({.uid = ::geteuid(), .gid = ::getegid(), .pid = ::getpid()});
        const Result<> other = assume({.uid = kOtherUser, .gid = kGroup, .pid = 0});
        assume_daemon();
        ::_exit(own && !other && other.error().code() == EPERM ? 0 : 2);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace berth::sys
