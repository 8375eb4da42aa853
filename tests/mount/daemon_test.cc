// The daemon as a whole: start, stop, being killed, and what it refuses.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/namespaces.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

std::size_t mounts_at(const std::string& prefix) {
  const auto table = sys::read_mount_table();
  if (!table) return 0;
  return static_cast<std::size_t>(
      std::count_if(table->begin(), table->end(), [&](const auto& entry) { return entry.target.starts_with(prefix); }));
}

std::size_t occurrences(const std::string& text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

class Daemon : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = server_.make_directory("source");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
  }
  void start() { ASSERT_TRUE(ok(server_.start_shares({{"a", source_}}))); }
  void touch() { ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello"); }

  BerthServer server_;
  std::string source_;
};

TEST_F(Daemon, ListingAndStatMountNothingGoingInMounts) {
  start();
  struct stat attributes {};
  EXPECT_EQ(::stat(server_.in_namespace("a").c_str(), &attributes), 0);
  EXPECT_EQ(::access(server_.in_namespace("a").c_str(), R_OK), 0);
  EXPECT_EQ(::system(("find " + server_.namespace_path() + " -maxdepth 1 >/dev/null && ls -l " +
                      server_.namespace_path() + " >/dev/null")
                         .c_str()),
            0);
  EXPECT_EQ(server_.read_json("shares/a/status.json").value("mounts", -1), 0);
  EXPECT_EQ(server_.state("a"), "idle");
  touch();
  EXPECT_EQ(server_.state("a"), "mounted");
  EXPECT_EQ(server_.read_json("shares/a/status.json").value("mounts", -1), 1);
}

TEST_F(Daemon, ShareThatIsOnlyLookedAtIsUnmounted) {
  ASSERT_TRUE(ok(server_.start(
      "[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nidle_timeout = \"1s\"\nattr_timeout = \"0\"\nsource = \"" +
      source_ + "\"\n")));
  touch();
  const std::string look = "ls -l " + server_.namespace_path() + " && stat " + server_.in_namespace("a");
  EXPECT_TRUE(eventually([&] {
    EXPECT_EQ(::system(("( " + look + " ) >/dev/null").c_str()), 0);
    return server_.state("a") == "idle";
  }));
  EXPECT_EQ(server_.read_json("shares/a/status.json").value("mounts", -1), 1);
}

TEST_F(Daemon, HostSeesTheNamespaceAndNoRealMount) {
  const std::size_t before = mounts_at("/");
  start();
  touch();
  EXPECT_EQ(mounts_at("/"), before + 1);
  EXPECT_EQ(mounts_at(server_.namespace_path()), 1U);
}

TEST_F(Daemon, CleanStopTakesEverythingDown) {
  start();
  touch();
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_EQ(mounts_at(server_.namespace_path()), 0U);
}

TEST_F(Daemon, MovedNamespaceIsUnmountedWhereItIs) {
  start();
  touch();
  const std::string moved = server_.make_directory("moved");
  ASSERT_EQ(::mount(server_.namespace_path().c_str(), moved.c_str(), nullptr, MS_MOVE, nullptr), 0)
      << errno_name(errno);
  EXPECT_EQ(server_.read_file("moved/a/hello").value_or(""), "hello") << "it serves there";
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_EQ(mounts_at(moved), 0U);
}

TEST_F(Daemon, InterruptFromTheTerminalStopsAsWell) {
  start();
  EXPECT_EQ(server_.stop(SIGINT), Ending{});
}

TEST_F(Daemon, UnmountOfTheNamespaceEndsIt) {
  start();
  touch();
  ASSERT_EQ(::umount2(server_.namespace_path().c_str(), 0), 0) << errno_name(errno);
  EXPECT_EQ(server_.stop(0), Ending{});
}

TEST_F(Daemon, OpenFileHoldsTheStopBackASecondSignalForces) {
  ASSERT_TRUE(
      ok(server_.start("[berth]\nstop_timeout = \"1h\"\n[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" +
                       source_ + "\"\n")));
  const UniqueFd held(::open(server_.in_namespace("a/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(held);
  ASSERT_EQ(::kill(server_.pid(), SIGTERM), 0);
  ASSERT_TRUE(eventually([&] { return mounts_at(server_.namespace_path()) == 0; }));
  char byte = 0;
  EXPECT_EQ(::pread(held.get(), &byte, 1, 0), 1) << "a program that is inside goes on until the end";
  EXPECT_EQ(server_.stop(SIGTERM), Ending{});
}

TEST_F(Daemon, KilledServerIsSucceeded) {
  start();
  touch();
  const pid_t first = server_.server_pid();
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  touch();
  EXPECT_NE(server_.server_pid(), first);
  // The keeper says so when it has read that, which may be after the answer.
  EXPECT_TRUE(eventually([&] { return server_.log().find("a new server has taken over") != std::string::npos; }))
      << server_.log();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Daemon, OneCrashTooManyEndsTheConnection) {
  ASSERT_TRUE(ok(server_.start("[berth]\ncrash_limit = 1\n[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" +
                               source_ + "\"\n")));
  touch();
  const UniqueFd inside(::open(server_.in_namespace("a").c_str(), O_PATH | O_CLOEXEC));
  ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
  touch();
  ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
  EXPECT_NE(server_.stop(0).code, 0);
  EXPECT_TRUE(server_.left_a_dead_namespace());
  EXPECT_NE(server_.log().find("crash_limit"), std::string::npos) << server_.log();
  EXPECT_LT(::openat(inside.get(), "hello", O_RDONLY), 0)
      << "a program that is still inside is told, and does not hang";
}

TEST_F(Daemon, ServerThatDoesNotTakeOverEndsTheConnection) {
  ASSERT_TRUE(ok(server_.start(
      "[berth]\ntakeover_timeout = \"300ms\"\n[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ +
      "\"\n")));
  touch();
  // The successor is stopped as soon as it is there; if it was quicker, the next one is.
  const auto given_up = [&] { return server_.log().find("giving up") != std::string::npos; };
  for (std::size_t takeovers = 0;;) {
    const std::vector<pid_t> before = server_.processes();
    ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
    std::vector<pid_t> stopped;
    while (stopped.empty() && !given_up()) {
      for (const pid_t pid : server_.processes()) {
        if (std::find(before.begin(), before.end(), pid) == before.end() && ::kill(pid, SIGSTOP) == 0)
          stopped.push_back(pid);
      }
    }
    const auto taken_over = [&] { return occurrences(server_.log(), "taken over") > takeovers; };
    ASSERT_TRUE(eventually([&] { return given_up() || taken_over(); }));
    if (!taken_over()) break;
    ++takeovers;
    for (const pid_t pid : stopped) ::kill(pid, SIGCONT);
  }
  EXPECT_NE(server_.stop(0).code, 0);
  EXPECT_NE(server_.log().find("takeover_timeout"), std::string::npos) << server_.log();
}

TEST_F(Daemon, KillOfAllLeavesNoMountNoHelperAndNoLoopDevice) {
  const std::string image = server_.path("image");
  ASSERT_EQ(::system(("truncate -s 16M " + image + " && mkfs.ext4 -q " + image).c_str()), 0);
  ASSERT_TRUE(ok(server_.start("[share.image]\ntype = \"ext4\"\nsource = \"" + image + "\"\n")));
  EXPECT_EQ(::access(server_.in_namespace("image/lost+found").c_str(), F_OK), 0);
  ASSERT_EQ(::system(("losetup -j " + image + " | grep -q .").c_str()), 0) << "the image is on a loop device now";
  server_.kill_all();
  EXPECT_TRUE(eventually([&] { return ::system(("losetup -j " + image + " | grep -q .").c_str()) != 0; }));
}

TEST_F(Daemon, AbortedConnectionEndsItWithAnError) {
  start();
  touch();
  struct stat attributes {};
  ASSERT_EQ(::stat(server_.namespace_path().c_str(), &attributes), 0);
  const std::string connections = server_.make_directory("connections");
  ASSERT_EQ(::mount("fusectl", connections.c_str(), "fusectl", 0, nullptr), 0);
  EXPECT_EQ(::system(("echo 1 > " + connections + "/" + std::to_string(attributes.st_dev & 0xff) + "/abort").c_str()),
            0);
  ASSERT_EQ(::umount2(connections.c_str(), 0), 0);
  const Ending ending = server_.stop(0);
  EXPECT_NE(ending.code, 0);
  EXPECT_NE(server_.log().find("been aborted"), std::string::npos) << server_.log();
}

TEST_F(Daemon, RequestThatHangsInAMountDoesNotHoldTheStopBack) {
  ASSERT_TRUE(ok(
      server_.start("[share.hang]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"sleep 1000\", \"{mountpoint}\"]\n")));
  const pid_t reader = ::fork();
  if (reader == 0) {
    const int got = ::open(server_.in_namespace("hang/x").c_str(), O_RDONLY);
    ::_exit(got < 0 ? errno : 0);
  }
  ASSERT_TRUE(server_.wait_for_state("hang", "mounting"));
  EXPECT_EQ(server_.stop(), Ending{});
  int status = 0;
  ASSERT_EQ(::waitpid(reader, &status, 0), reader);
  EXPECT_EQ(WEXITSTATUS(status), ESHUTDOWN);
}

TEST_F(Daemon, ServerThatDoesNotAnswerIsKilledAtTheThirdSignal) {
  start();
  touch();
  const pid_t server = server_.server_pid();
  ASSERT_EQ(::kill(server, SIGSTOP), 0);
  for (const char* said : {"stopping; a second one forces", "stopping at once"}) {
    ASSERT_EQ(::kill(server_.pid(), SIGTERM), 0);
    ASSERT_TRUE(eventually([&] { return server_.log().find(said) != std::string::npos; })) << said;
  }
  EXPECT_NE(server_.stop(SIGTERM).code, 0);
}

/// What `berth serve` says when it cannot.
std::string refusal(const std::string& directory, const std::string& source) {
  BerthServer other;
  EXPECT_FALSE(other.start_program({"serve", "--namespace", directory, "--share", "a=" + source}));
  EXPECT_NE(other.ending().code, 0);
  return other.log();
}

TEST(QuickShare, WhoseDirectoryIsNotThereIsWarnedOf) {
  BerthServer server;
  ASSERT_TRUE(ok(server.write_file("file", "")));
  ASSERT_TRUE(ok(server.start_program({"serve", "--namespace", server.make_directory("namespace"), "--state-dir",
                                       server.path("state"), "--share", "a=" + server.path("nope"), "--share",
                                       "b=" + server.path("file"), "--share", "c=" + server.make_directory("there")})));
  const auto warns = [&](const std::string& of, const std::string& why) {
    return eventually([&] { return server.log().find(of + ": " + why) != std::string::npos; });
  };
  EXPECT_TRUE(warns("\"" + server.path("nope") + "\" of \"a\"", "No such file or directory")) << server.log();
  EXPECT_TRUE(warns("\"" + server.path("file") + "\" of \"b\"", "Not a directory")) << server.log();
  EXPECT_EQ(server.log().find("of \"c\""), std::string::npos) << server.log();
  EXPECT_EQ(server.stop(), Ending{});
}

TEST_F(Daemon, RefusesADirectoryThatIsServedAlready) {
  start();
  EXPECT_NE(refusal(server_.namespace_path(), source_).find("is served by another berth"), std::string::npos);
  touch();
}

TEST_F(Daemon, RefusesADirectoryThatIsNotEmptyAFileAndAMissingOne) {
  EXPECT_NE(refusal(source_, server_.make_directory("other")).find("is not empty (it has \"hello\")"),
            std::string::npos);
  EXPECT_NE(refusal(server_.path("source/hello"), source_).find("is not a directory"), std::string::npos);
  EXPECT_NE(refusal(server_.path("missing"), source_).find("mkdir -p"), std::string::npos);
}

TEST_F(Daemon, WithoutAFuseDeviceItSaysWhatToDo) {
  ASSERT_TRUE(ok(server_.write_file("nothing", "")));
  const std::string empty = server_.make_directory("empty");
  ASSERT_EQ(::mount("/dev/null", "/dev/fuse", nullptr, MS_BIND, nullptr), 0);
  const std::string said = refusal(empty, source_);
  ASSERT_EQ(::umount2("/dev/fuse", 0), 0);
  EXPECT_NE(said.find("berth: serve: "), std::string::npos) << said;
}

TEST_F(Daemon, ChrootThatIsNoMountIsNamed) {
  const std::string root = server_.make_directory("root");
  const pid_t child = ::fork();
  if (child == 0) {
    const bool in = ::chroot(root.c_str()) == 0 && ::chdir("/") == 0;
    const Result<> made = sys::unshare_mount_namespace();
    ::_exit(in && !made && made.error().story().find("chroot") != std::string_view::npos ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(Daemon, ControlTreeIsForItsReaders) {
  const std::string share = "[share.a]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n";
  ASSERT_TRUE(ok(server_.start("[control]\ngroup = 4242\nreaders = \"group\"\n" + share)));
  const std::string status = "cat " + server_.in_namespace(".berth/status") + " >/dev/null 2>&1";
  EXPECT_NE(::system(("setpriv --reuid=65534 --regid=65534 --clear-groups -- " + status).c_str()), 0);
  EXPECT_EQ(::system(("setpriv --reuid=65534 --regid=65534 --groups=4242 -- " + status).c_str()), 0);
}

TEST_F(Daemon, CallersActAsThemselves) {
  ASSERT_EQ(::chmod(source_.c_str(), 01777), 0);
  ASSERT_TRUE(ok(server_.write_file("source/secret", "root only")));
  ASSERT_EQ(::chmod((source_ + "/secret").c_str(), 0600), 0);
  start();
  const std::string inside = server_.in_namespace("a");
  const std::string as_nobody = "setpriv --reuid=65534 --regid=65534 --groups=4242 -- sh -c ";
  EXPECT_NE(::system((as_nobody + "'cat " + inside + "/secret' 2>/dev/null").c_str()), 0);
  EXPECT_EQ(::system((as_nobody + "'echo mine > " + inside + "/mine'").c_str()), 0);
  struct stat attributes {};
  ASSERT_EQ(::stat((source_ + "/mine").c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_uid, 65534U);
  EXPECT_EQ(attributes.st_gid, 65534U);
  // By a supplementary group.
  ASSERT_EQ(::chown((source_ + "/secret").c_str(), 0, 4242), 0);
  ASSERT_EQ(::chmod((source_ + "/secret").c_str(), 0640), 0);
  EXPECT_TRUE(
      eventually([&] { return ::system((as_nobody + "'cat " + inside + "/secret' >/dev/null 2>&1").c_str()) == 0; }));
}

}  // namespace
}  // namespace berth::test
