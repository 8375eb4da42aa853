// The server dies (kill -9), and the programs that make and serve mounts are the next one's.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/mount/local_sshd.h"
#include "tests/mount/takeover.h"

namespace berth::test {
namespace {

/// A process' children, theirs, and so on.
std::vector<pid_t> descendants_of(pid_t pid) {
  std::vector<pid_t> found{pid};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::string number = std::to_string(found[i]);
    std::ifstream children("/proc/" + number + "/task/" + number + "/children");
    for (pid_t child = 0; children >> child;) found.push_back(child);
  }
  found.erase(found.begin());
  return found;
}

/// As mount(8) starts it, cut off where the kernel does.
constexpr const char* kSshfs = "mount.fuse.sshf";

class TakeoverOfSshfs : public TakeoverTest {
 protected:
  void SetUp() override {
    TakeoverTest::SetUp();
    auto sshd = LocalSshd::start(server_.make_directory("sshd"));
    if (!sshd && sshd.error().code() == ENOENT) GTEST_SKIP() << sshd.error().message();
    ASSERT_TRUE(ok(sshd));
    sshd_ = *std::move(sshd);
    ASSERT_TRUE(ok(server_.start("[berth]\ncrash_limit = 1000\n[share.a]\ntype = \"fuse.sshfs\"\nsource = \"" +
                                 LocalSshd::source(source_) + "\"\noptions = \"" + sshd_->options() + "\"\n")));
  }
  void TearDown() override { let_go(); }

  /// The remote side does nothing any more.
  void hold() {
    held_ = descendants_of(sshd_->pid());
    ASSERT_FALSE(held_.empty());
    for (const pid_t pid : held_) ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  }
  void let_go() {
    for (const pid_t pid : held_) ::kill(pid, SIGCONT);
    held_.clear();
  }

  std::unique_ptr<LocalSshd> sshd_;
  std::vector<pid_t> held_;
};

TEST_F(TakeoverOfSshfs, HelperIsTheNextServersAndEndsWithTheMount) {
  const UniqueFd file(::open(in("hello").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  const std::vector<pid_t> before = processes_named(kSshfs);
  ASSERT_EQ(before.size(), 1U);
  EXPECT_EQ(server_.read_json("shares/a/status.json").value("helper_pid", 0), before.front());
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(::pwrite(file.get(), "HELLO", 5, 0), 5) << errno_name(errno);
  EXPECT_EQ(::fsync(file.get()), 0) << errno_name(errno);
  EXPECT_EQ(server_.read_file("memory/source/hello").value_or(""), "HELLO");
  EXPECT_EQ(processes_named(kSshfs), before);
  EXPECT_EQ(server_.read_json("shares/a/status.json").value("helper_pid", 0), before.front());
  EXPECT_FALSE(server_.write_control("shares/a/control", "unmount")) << "in use";
}

TEST_F(TakeoverOfSshfs, HelperEndsWithTheMountAfterTwoDeaths) {
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  ASSERT_NO_FATAL_FAILURE(kill_server());
  ASSERT_NO_FATAL_FAILURE(kill_server());
  ASSERT_EQ(processes_named(kSshfs).size(), 1U);
  ASSERT_TRUE(ok(server_.write_control("shares/a/control", "unmount")));
  EXPECT_TRUE(eventually([&] { return processes_named(kSshfs).empty() && processes_named("ssh").empty(); }));
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello") << "and it is mounted again";
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverOfSshfs, HelperThatDiesLaterIsNoticed) {
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  ASSERT_NO_FATAL_FAILURE(kill_server());
  const std::vector<pid_t> helpers = processes_named(kSshfs);
  ASSERT_EQ(helpers.size(), 1U);
  ASSERT_EQ(::kill(helpers.front(), SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return server_.state("a") != "mounted"; }));
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello") << "mounted again";
}

TEST_F(TakeoverOfSshfs, ReaderThatWaitsGetsItsDataThoughTheServerDies) {
  ASSERT_TRUE(ok(server_.write_file("memory/source/slow", std::string(100'000, 's'))));
  const UniqueFd file(::open(in("slow").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  ASSERT_NO_FATAL_FAILURE(hold());
  Doer reader([&] {
    std::string text(100'000, '\0');
    const ssize_t count = ::pread(file.get(), text.data(), text.size(), 0);
    return count == 100'000 && text == std::string(100'000, 's') ? 0 : 1;
  });
  ASSERT_TRUE(eventually([&] { return reader.waits(); }));
  // What hangs is one share: the next server must not wait for it.
  ASSERT_NO_FATAL_FAILURE(kill_server());
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_TRUE(reader.waits());
  let_go();
  EXPECT_EQ(reader.result(), 0);
}

/// A caller that asks for a file in a share that hangs, so that the server's thread in it can be killed and does not
/// end.
class TakeoverOfSshfsThatHangs : public TakeoverOfSshfs {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(TakeoverOfSshfs::SetUp());
    if (IsSkipped()) return;
    ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
    ASSERT_NO_FATAL_FAILURE(hold());
    caller_.emplace([this] { return ::access(in("unknown").c_str(), F_OK) == 0 ? 0 : errno; });
    ASSERT_TRUE(eventually([this] { return is_stuck(); }));
  }
  void TearDown() override {
    TakeoverOfSshfs::TearDown();
    caller_.reset();
  }

  /// Whether a thread of the server waits in the share.
  [[nodiscard]] bool is_stuck() const {
    for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(server()) + "/task")) {
      std::ifstream where(thread.path() / "wchan");
      if (std::string name; where >> name && name == "request_wait_answer") return true;
    }
    return false;
  }

  std::optional<Doer> caller_;
};

TEST_F(TakeoverOfSshfsThatHangs, NextServerDoesNotWaitForIt) {
  const Footprint before = server_.footprint();
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(server_.state("a"), "mounted");
  ASSERT_TRUE(eventually([this] { return is_stuck(); })) << "as before: the kernel has asked again";
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(server_.state("a"), "mounted");
  EXPECT_TRUE(caller_->waits());
  let_go();
  EXPECT_EQ(caller_->result(), ENOENT);
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_TRUE(eventually([&] { return server_.footprint().processes == before.processes; })) << server_.footprint();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverOfSshfsThatHangs, UpgradeDoesNotWaitForIt) {
  const Footprint before = server_.footprint();
  EXPECT_TRUE(ok(server_.write_control("control", "upgrade")));
  EXPECT_TRUE(caller_->waits());
  let_go();
  EXPECT_EQ(caller_->result(), ENOENT);
  EXPECT_TRUE(eventually([&] { return server_.footprint().processes == before.processes; })) << server_.footprint();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverOfSshfsThatHangs, StopDoesNotWaitForIt) {
  EXPECT_EQ(server_.stop().signal, 0);
  EXPECT_NE(caller_->result(), -1) << "it has got an answer";
}

class TakeoverOfCommand : public TakeoverTest {
 protected:
  /// A share "c" that this shell script mounts, with its mountpoint as $1 and a directory to leave notes in as $2.
  void start_script(const std::string& script, const std::string& keys = "") {
    notes_ = server_.make_directory("notes");
    ASSERT_TRUE(ok(server_.write_file("script", script)));
    ASSERT_NO_FATAL_FAILURE(start("", "",
                                  "[share.c]\ntype = \"command\"\naccess = \"proxy\"\nmount = [\"sh\", \"" +
                                      server_.path("script") + "\", \"{mountpoint}\", \"" + notes_ + "\"]\n" + keys));
  }
  [[nodiscard]] std::size_t starts() const {
    const std::string text = server_.read_file("notes/started").value_or("");
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  /// Mounts in the servers' own mount namespace at or below the mountpoint of "c".
  [[nodiscard]] std::size_t real_mounts() const {
    std::ifstream table("/proc/" + std::to_string(server()) + "/mountinfo");
    std::size_t count = 0;
    for (std::string line; std::getline(table, line);) {
      if (line.find(" the-command ") != std::string::npos) ++count;
    }
    return count;
  }

  std::string notes_;
};

constexpr const char* kServes = "mount -t tmpfs the-command \"$1\" && : > \"$1/there\" && exec sleep 1000\n";

TEST_F(TakeoverOfCommand, HelperGoesOnAndEndsAtTheStop) {
  ASSERT_NO_FATAL_FAILURE(start_script(kServes));
  ASSERT_EQ(::access(server_.in_namespace("c/there").c_str(), F_OK), 0) << errno_name(errno);
  const std::vector<pid_t> before = processes_named("sleep");
  ASSERT_EQ(before.size(), 1U);
  EXPECT_EQ(server_.read_json("shares/c/status.json").value("helper_pid", 0), before.front());
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(processes_named("sleep"), before);
  EXPECT_EQ(::access(server_.in_namespace("c/there").c_str(), F_OK), 0) << errno_name(errno);
  EXPECT_EQ(server_.read_json("shares/c/status.json").value("helper_pid", 0), before.front());
  EXPECT_EQ(server_.stop(), Ending{}) << "which looks for processes that are left";
}

TEST_F(TakeoverOfCommand, HelperEndsWithTheMount) {
  ASSERT_NO_FATAL_FAILURE(start_script(kServes));
  ASSERT_EQ(::access(server_.in_namespace("c/there").c_str(), F_OK), 0) << errno_name(errno);
  ASSERT_NO_FATAL_FAILURE(kill_server());
  ASSERT_TRUE(ok(server_.write_control("shares/c/control", "unmount")));
  EXPECT_TRUE(eventually([&] { return processes_named("sleep").empty(); }));
  EXPECT_EQ(real_mounts(), 0U);
}

TEST_F(TakeoverOfCommand, MountUnderWayAtTheDeathIsFoundOrMadeOnce) {
  ASSERT_NO_FATAL_FAILURE(
      start_script("echo >> \"$2/started\"; while ! test -e \"$2/go\"; do sleep 0.01; done\n" + std::string(kServes)));
  Doer caller([&] { return ::access(server_.in_namespace("c/there").c_str(), F_OK) == 0 ? 0 : errno; });
  ASSERT_TRUE(eventually([&] { return starts() == 1; }));
  ASSERT_NO_FATAL_FAILURE(kill_server());
  ASSERT_TRUE(ok(server_.write_file("notes/go", "")));
  EXPECT_EQ(caller.result(), 0);
  EXPECT_TRUE(server_.wait_for_state("c", "mounted"));
  EXPECT_TRUE(eventually([&] { return real_mounts() == 1 && processes_named("sleep").size() == 1; }))
      << real_mounts() << " mounts, " << processes_named("sleep").size() << " helpers";
  ASSERT_TRUE(ok(server_.write_control("shares/c/control", "unmount")));
  EXPECT_EQ(real_mounts(), 0U);
  EXPECT_TRUE(eventually([&] { return processes_named("sleep").empty() && processes_named("sh").empty(); }));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverOfCommand, MountUnderWayAtTheDeathStaysUnderItsDeadline) {
  ASSERT_NO_FATAL_FAILURE(start_script("echo >> \"$2/started\"; exec sleep 1000\n", "mount_timeout = \"2s\"\n"));
  Doer caller([&] { return ::access(server_.in_namespace("c/there").c_str(), F_OK) == 0 ? 0 : errno; });
  ASSERT_TRUE(eventually([&] { return starts() == 1; }));
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(caller.result(), ETIMEDOUT);
  EXPECT_TRUE(server_.wait_for_state("c", "failed"));
  EXPECT_TRUE(eventually([&] { return processes_named("sleep").empty(); }));
  EXPECT_EQ(real_mounts(), 0U);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverOfCommand, MountUnderWayAtTheUpgradeIsFoundOrMadeOnce) {
  ASSERT_NO_FATAL_FAILURE(
      start_script("echo >> \"$2/started\"; while ! test -e \"$2/go\"; do sleep 0.01; done\n" + std::string(kServes)));
  Doer caller([&] { return ::access(server_.in_namespace("c/there").c_str(), F_OK) == 0 ? 0 : errno; });
  ASSERT_TRUE(eventually([&] { return starts() == 1; }));
  ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
  EXPECT_TRUE(caller.waits());
  ASSERT_TRUE(ok(server_.write_file("notes/go", "")));
  EXPECT_EQ(caller.result(), 0);
  EXPECT_TRUE(eventually([&] { return real_mounts() == 1 && processes_named("sleep").size() == 1; }))
      << real_mounts() << " mounts, " << processes_named("sleep").size() << " helpers";
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverOfCommand, MountThatNobodyWaitsForAnyMoreLeavesNothing) {
  ASSERT_NO_FATAL_FAILURE(
      start_script("echo >> \"$2/started\"; while ! test -e \"$2/go\"; do sleep 0.01; done\n" + std::string(kServes)));
  {
    const Doer caller([&] { return ::access(server_.in_namespace("c/there").c_str(), F_OK) == 0 ? 0 : errno; });
    ASSERT_TRUE(eventually([&] { return starts() == 1; }));
    ASSERT_NO_FATAL_FAILURE(strike());
  }  // and the caller as well
  ASSERT_NO_FATAL_FAILURE(await_takeover());
  ASSERT_TRUE(ok(server_.write_file("notes/go", "")));
  // Whatever the next one makes of it, it can be asked for and taken off.
  EXPECT_EQ(::access(server_.in_namespace("c/there").c_str(), F_OK), 0) << errno_name(errno);
  EXPECT_TRUE(eventually([&] { return real_mounts() == 1 && processes_named("sleep").size() == 1; }))
      << real_mounts() << " mounts, " << processes_named("sleep").size() << " helpers";
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverOfCommand, UnmountProgramOfADeadServerIsEndedWithAllThatItStarted) {
  const std::string unmount = server_.path("unmount");
  ASSERT_TRUE(ok(server_.write_file("unmount",
                                    "test -e \"$2/go\" && exec umount \"$1\"\n"
                                    "env -i setsid sleep 1000 & : > \"$2/unmounts\"; while :; do sleep 0.01; done\n")));
  ASSERT_NO_FATAL_FAILURE(
      start_script("mount -t tmpfs the-command \"$1\" && : > \"$1/there\"\n",
                   "unmount = [\"sh\", \"" + unmount + "\", \"{mountpoint}\", \"" + server_.path("notes") + "\"]\n"));
  ASSERT_EQ(::access(server_.in_namespace("c/there").c_str(), F_OK), 0) << errno_name(errno);
  {
    const Doer caller([&] { return server_.write_control("shares/c/control", "unmount") ? 0 : EIO; });
    ASSERT_TRUE(eventually([&] { return server_.read_file("notes/unmounts").has_value(); }));
    ASSERT_NO_FATAL_FAILURE(strike());
  }  // and the caller as well
  ASSERT_TRUE(ok(server_.write_file("notes/go", "")));
  ASSERT_NO_FATAL_FAILURE(await_takeover());
  EXPECT_TRUE(eventually([&] { return processes_named("sleep").empty() && processes_named("sh").empty(); }));
  ASSERT_TRUE(eventually([&] { return server_.write_control("shares/c/control", "unmount").has_value(); }));
  EXPECT_EQ(real_mounts(), 0U);
  EXPECT_EQ(server_.stop(), Ending{});
}

/// A command that stays, and an argument of which is the way to a file with a secret in it, a symbolic link.
class TakeoverOfSecretFile : public TakeoverOfCommand {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(TakeoverOfCommand::SetUp());
    ASSERT_TRUE(ok(server_.write_file("conf", "password = Open-Sesame-42\n")));
    ASSERT_EQ(::chmod(server_.path("conf").c_str(), 0600), 0);
    link_ = server_.path("link");
    ASSERT_EQ(::symlink(server_.path("conf").c_str(), link_.c_str()), 0);
    ASSERT_TRUE(ok(server_.write_file(
        "script",
        "mount -t tmpfs the-command \"$1\" && : > \"$1/there\"\n"
        "until test -e \"$2/say\"; do sleep 0.01; done; echo \"my password is Open-Sesame-42\"; exec sleep 1000\n")));
    const std::string notes = server_.make_directory("notes");
    ASSERT_NO_FATAL_FAILURE(start("takeover_timeout = \"5s\"\n", "",
                                  "[share.c]\ntype = \"command\"\naccess = \"proxy\"\nmount = [\"sh\", \"" +
                                      server_.path("script") + "\", \"{mountpoint}\", \"" + notes + "\", \"" + link_ +
                                      "\"]\n"));
    ASSERT_EQ(::access(server_.in_namespace("c/there").c_str(), F_OK), 0) << errno_name(errno);
  }
  /// From now on it leads elsewhere.
  void lead_to(const std::string& path) {
    ASSERT_EQ(::unlink(link_.c_str()), 0);
    ASSERT_EQ(::symlink(path.c_str(), link_.c_str()), 0);
  }

  std::string link_;
};

TEST_F(TakeoverOfSecretFile, WhatTheProgramSaysLaterIsToldWithoutIt) {
  ASSERT_NO_FATAL_FAILURE(kill_server());
  ASSERT_TRUE(ok(server_.write_file("notes/say", "")));
  EXPECT_TRUE(eventually([&] { return server_.log().find("my password is") != std::string::npos; })) << server_.log();
  EXPECT_EQ(server_.log().find("Open-Sesame"), std::string::npos) << server_.log();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverOfSecretFile, OneThatDoesNotAnswerHoldsUpNoTakeover) {
  const std::string silent = server_.make_directory("silent");
  {
    // No program answers what is asked there.
    const UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(device) << errno_name(errno);
    const std::string options = "fd=" + std::to_string(device.get()) + ",rootmode=40755,user_id=0,group_id=0";
    ASSERT_EQ(::mount("silent", silent.c_str(), "fuse", 0, options.c_str()), 0) << errno_name(errno);
    ASSERT_NO_FATAL_FAILURE(lead_to(silent + "/conf"));
    ASSERT_NO_FATAL_FAILURE(kill_server());
    ASSERT_NO_FATAL_FAILURE(kill_server());
    EXPECT_EQ(::access(server_.in_namespace("c/there").c_str(), F_OK), 0) << errno_name(errno);
    EXPECT_EQ(server_.state("c"), "mounted");
  }
  ASSERT_EQ(::umount2(silent.c_str(), MNT_DETACH), 0) << errno_name(errno);
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
