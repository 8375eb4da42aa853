// berth in a control group that was delegated to it, as systemd does for a unit with Delegate=.
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/mount/berth_fixture.h"
#include "tests/mount/local_sshd.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;

std::string tree() {
  for (const char* const path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    struct statfs found {};
    if (::statfs(path, &found) == 0 && found.f_type == CGROUP2_SUPER_MAGIC) return path;
  }
  return "";
}

/// A group like that of a unit.
class Unit {
 public:
  Unit() : path_(tree() + "/berth-test-" + std::to_string(::getpid())) {}
  ~Unit() {
    if (path_.empty()) return;
    for (const std::string& name : groups()) ::rmdir((path_ + "/" + name).c_str());
    EXPECT_EQ(::rmdir(path_.c_str()), 0) << errno_name(errno);
  }
  Unit(const Unit&) = delete;
  Unit& operator=(const Unit&) = delete;

  /// Why there can be none; "" when it is there.
  std::string make(bool is_delegated) {
    std::string why;
    if (!path_.starts_with('/') || tree().empty()) {
      why = "no control groups of version 2 are mounted here";
    } else if (::mkdir(path_.c_str(), 0755) != 0) {
      why = "no control group can be made: " + std::string(errno_name(errno));
    } else if (is_delegated && ::setxattr(path_.c_str(), "trusted.delegate", "1", 1, 0) != 0) {
      why = "a control group cannot be marked: " + std::string(errno_name(errno));
    }
    if (!why.empty()) {
      ::rmdir(path_.c_str());
      path_.clear();
    }
    return why;
  }

  /// Words that start a program in it.
  [[nodiscard]] std::vector<std::string> launcher() const {
    return {"sh", "-c", "echo $$ >" + path_ + "/cgroup.procs && exec \"$0\" \"$@\""};
  }

  [[nodiscard]] std::set<std::string> groups() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_)) {
      if (entry.is_directory()) names.insert(entry.path().filename());
    }
    return names;
  }
  [[nodiscard]] std::set<std::string> share_groups() const {
    std::set<std::string> names = groups();
    std::erase_if(names, [](const std::string& name) { return !name.starts_with("share-"); });
    return names;
  }
  /// The processes in a group below it; "": in itself.
  [[nodiscard]] std::set<pid_t> processes(const std::string& group) const {
    std::ifstream list(path_ + "/" + group + "/cgroup.procs");
    std::set<pid_t> found;
    for (pid_t pid = 0; list >> pid;) found.insert(pid);
    return found;
  }
  [[nodiscard]] std::string path(const std::string& group) const { return path_ + "/" + group; }

 private:
  std::string path_;
};

/// A program that mounts, has a child, and stays.
std::string helper_share(const std::string& name) {
  return "[share.\"" + name +
         "\"]\ntype = \"command\"\naccess = \"proxy\"\nmount = [\"sh\", \"-c\", \"sleep 1000 & mount -t tmpfs helper "
         "\\\"$1\\\" && exec sleep 1000\", \"sh\", \"{mountpoint}\"]\n";
}

class ControlGroups : public ::testing::Test {
 protected:
  void start(const std::string& configuration, bool is_delegated = true) {
    if (const std::string why = unit_.make(is_delegated); !why.empty()) GTEST_SKIP() << why;
    server_.launch_through(unit_.launcher());
    ASSERT_TRUE(ok(server_.start(configuration)));
  }
  void mount(const std::string& share) const {
    ASSERT_TRUE(ok(server_.write_control("shares/" + share + "/control", "mount"))) << server_.log();
  }
  void unmount(const std::string& share) const {
    ASSERT_TRUE(ok(server_.write_control("shares/" + share + "/control", "unmount")));
  }
  /// Every process of berth but those of shares is in the one group.
  void expect_daemon_apart() const {
    const std::set<pid_t> daemon = unit_.processes("daemon");
    EXPECT_EQ(unit_.processes("").size(), 0U);
    EXPECT_TRUE(daemon.contains(server_.pid()));
    EXPECT_TRUE(daemon.contains(server_.server_pid()));
    EXPECT_GE(daemon.size(), 4U) << "keeper, first process, agent, server";
  }

  Unit unit_;
  BerthServer server_;
};

TEST_F(ControlGroups, EachShareHasOneForAllItsPrograms) {
  start(helper_share("a") + helper_share("home/b c") + "[share.plain]\ntype = \"bind\"\nsource = \"/tmp\"\n");
  if (IsSkipped() || HasFatalFailure()) return;
  expect_daemon_apart();
  EXPECT_EQ(unit_.groups(), (std::set<std::string>{"daemon", "questions"}));
  for (const char* const share : {"a", "home/b c", "plain"}) mount(share);
  EXPECT_EQ(unit_.share_groups(), (std::set<std::string>{"share-a", "share-home-b\\x20c"}));
  const std::set<pid_t> helpers = unit_.processes("share-a");
  EXPECT_EQ(helpers.size(), 2U) << "the program and its child";
  EXPECT_TRUE(helpers.contains(server_.read_json("shares/a/status.json").value("helper_pid", 0)));
  unmount("a");
  EXPECT_EQ(unit_.share_groups(), (std::set<std::string>{"share-home-b\\x20c"}));
  mount("a");
  EXPECT_EQ(unit_.processes("share-a").size(), 2U);
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_EQ(unit_.share_groups(), std::set<std::string>());
  for (const char* const group : {"", "daemon", "questions"}) EXPECT_EQ(unit_.processes(group).size(), 0U) << group;
}

TEST_F(ControlGroups, SurviveTheServerAndAnUpgrade) {
  start(helper_share("a") + helper_share("b"));
  if (IsSkipped() || HasFatalFailure()) return;
  mount("a");
  const std::set<pid_t> helpers = unit_.processes("share-a");
  server_.kill_server();
  expect_daemon_apart();
  EXPECT_EQ(unit_.processes("share-a"), helpers);
  ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
  EXPECT_TRUE(eventually([this] { return server_.state("a") == "mounted"; }));
  expect_daemon_apart();
  EXPECT_EQ(unit_.processes("share-a"), helpers);
  mount("b");
  EXPECT_EQ(unit_.processes("share-b").size(), 2U);
  for (const char* const share : {"a", "b"}) unmount(share);
  EXPECT_EQ(unit_.share_groups(), std::set<std::string>());
}

TEST_F(ControlGroups, WhatADeadServerHasBegunLeavesNone) {
  start(
      "[share.slow]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"sleep 1000 & exec sleep 1000\", \"sh\", "
      "\"{mountpoint}\"]\n");
  if (IsSkipped() || HasFatalFailure()) return;
  // As a server leaves it that has died between the end of a program and the removal of its group.
  ASSERT_EQ(::mkdir(unit_.path("share-gone").c_str(), 0755), 0);
  const std::string control = server_.in_namespace(".berth/shares/slow/control");
  const pid_t caller = ::fork();
  if (caller == 0) {
    const int file = ::open(control.c_str(), O_WRONLY | O_CLOEXEC);
    ::_exit(::write(file, "mount", 5) == 5 ? 0 : 1);
  }
  EXPECT_TRUE(eventually([this] { return unit_.processes("share-slow").size() == 2; }));
  server_.kill_server();
  EXPECT_TRUE(eventually([this] { return unit_.processes("share-slow").size() == 2; })) << "the next one tries again";
  ASSERT_TRUE(ok(server_.write_control("shares/slow/control", "force-unmount")));
  EXPECT_TRUE(eventually([this] { return unit_.share_groups().empty(); }));
  ::kill(caller, SIGKILL);
}

TEST_F(ControlGroups, AFailedAttemptLeavesNone) {
  start(
      "[share.bad]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"setsid sleep 1000 & exit 3\", \"sh\", "
      "\"{mountpoint}\"]\n");
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_FALSE(server_.write_control("shares/bad/control", "mount"));
  EXPECT_EQ(unit_.share_groups(), std::set<std::string>());
}

TEST_F(ControlGroups, QuestionsShareOne) {
  start("[share.\"home/*\"]\ntype = \"command\"\nprogram = [\"sh\", \"-c\", \"cat /proc/self/cgroup >" +
        server_.path("where") + "; exit 67\", \"sh\", \"{key}\"]\nmount = [\"true\", \"{mountpoint}\"]\n");
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_FALSE(fs::exists(server_.in_namespace("home/x")));
  const std::string where = server_.read_file("where").value_or("");
  EXPECT_NE(where.find("/questions\n"), std::string::npos) << where;
}

/// A shell of a user is in no unit that was delegated: nothing is moved, and shares work.
TEST_F(ControlGroups, NothingIsMadeWhereNoneIsDelegated) {
  start(helper_share("a"), false);
  if (IsSkipped() || HasFatalFailure()) return;
  mount("a");
  EXPECT_EQ(unit_.groups(), std::set<std::string>());
  const std::set<pid_t> all = unit_.processes("");
  EXPECT_TRUE(all.contains(server_.pid()));
  EXPECT_TRUE(all.contains(server_.read_json("shares/a/status.json").value("helper_pid", 0)));
}

/// The kernel refuses more groups: a share works all the same.
TEST_F(ControlGroups, AShareWithoutOneWorks) {
  start(helper_share("a") + helper_share("b"));
  if (IsSkipped() || HasFatalFailure()) return;
  mount("a");
  std::ofstream(unit_.path("cgroup.max.descendants")) << "3";
  mount("b");
  EXPECT_EQ(unit_.share_groups(), (std::set<std::string>{"share-a"}));
  EXPECT_TRUE(unit_.processes("daemon").contains(server_.read_json("shares/b/status.json").value("helper_pid", 0)));
}

/// mount(8), mount.fuse and sshfs follow one another, and sshfs goes into the background.
TEST_F(ControlGroups, ADaemonStaysInIt) {
  auto sshd = LocalSshd::start(server_.make_directory("sshd"));
  if (!sshd && sshd.error().code() == ENOENT) GTEST_SKIP() << sshd.error().message();
  ASSERT_TRUE(ok(sshd));
  const std::string source = server_.make_directory("source");
  start("[share.a]\ntype = \"fuse.sshfs\"\nsource = \"" + LocalSshd::source(source) + "\"\noptions = \"" +
        (*sshd)->options() + "\"\n");
  if (IsSkipped() || HasFatalFailure()) return;
  mount("a");
  EXPECT_GE(unit_.processes("share-a").size(), 2U) << "sshfs and ssh";
  unmount("a");
  EXPECT_EQ(unit_.share_groups(), std::set<std::string>());
}

}  // namespace
}  // namespace berth::test
