#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <utility>

#include "src/lib/base/unique_fd.h"
#include "src/lib/formats/metrics.h"
#include "src/lib/formats/render.h"
#include "tests/cli/faults.h"
#include "tests/cli/stage.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Cli : public testing::Test {
 protected:
  void SetUp() override { stage_.add_usual_shares(); }

  /// Runs and expects success without a word on standard error.
  std::string expect_ok(const std::vector<std::string>& arguments) {
    const Outcome outcome = stage_.run(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }

  Stage stage_;
};

TEST_F(Cli, MetricsForNodeExporterAreReplacedAsAWholeAndSayWhereNoBerthServes) {
  stage_.write_file(stage_.namespace_directory() + "/.berth/metrics", formats::render_metrics({.version = "1"}));
  const std::string file = stage_.root() + "/berth.prom";
  expect_ok({"berth", "metrics", "--textfile", file});
  EXPECT_THAT(stage_.read_file(file), HasSubstr("# TYPE berth_requests_total counter\n"));
  EXPECT_EQ(fs::status(file).permissions(), static_cast<fs::perms>(0644));
  stage_.mounts.clear();
  EXPECT_EQ(stage_.run({"berth", "metrics", "--textfile", file}).exit_code, 69);
  EXPECT_EQ(stage_.read_file(file), "# TYPE berth_up gauge\n# HELP berth_up 1: a server answers.\nberth_up 0\n");
  // Nothing but the file itself is there.
  EXPECT_EQ(std::distance(fs::directory_iterator(stage_.root()), fs::directory_iterator()), 2);
}

TEST_F(Cli, StatusIsWatchedUntilTheReaderIsGone) {
  stage_.world.watch_interval = std::chrono::milliseconds(0);
  std::string seen;
  int tables = 0;
  stage_.world.out = [&](std::string_view text) {
    seen = text;
    return ++tables < 3;
  };
  EXPECT_EQ(stage_.run({"berth", "status", "--watch"}).exit_code, 0);
  EXPECT_EQ(tables, 3);
  EXPECT_THAT(seen, HasSubstr("home/alice"));
}

TEST_F(Cli, CtrlCEndsTheWaitAndSaysWhatGoesOn) {
  struct sigaction harmless {};
  harmless.sa_handler = [](int) {};
  harmless.sa_flags = SA_RESTART;
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGINT, &harmless, &before), 0);
  stage_.world.err_is_terminal = true;
  const std::string of_host = stage_.namespace_directory() + "/.berth/control";
  struct Case {
    std::vector<std::string> words;
    std::string control, told;
  };
  for (const Case& c : {
           Case{{"mount", "media"},
                stage_.share_file("media", "control"),
                "mount: media: interrupted; the mount goes on; see `berth status media`"},
           Case{{"drain"},
                of_host,
                "drain: interrupted; the host stays draining: no share is given out until `berth resume`; in use: media"
                " (3 users)\n"},
           Case{{"drain", "--timeout", "1h"}, of_host, "drain: interrupted; the host stays draining"},
           Case{{"resume"}, of_host, "resume: interrupted; the resume goes on"},
           Case{{"upgrade"}, of_host, "upgrade: interrupted; the upgrade goes on"},
           Case{{"reload"}, of_host, "reload: interrupted; the reload goes on"},
       }) {
    // A control file that is not answered: a FIFO without a reader.
    fs::remove(c.control);
    ASSERT_EQ(::mkfifo(c.control.c_str(), 0666), 0);
    std::vector<std::string> arguments{"berth"};
    arguments.insert(arguments.end(), c.words.begin(), c.words.end());
    std::promise<pthread_t> started;
    auto outcome = std::async(std::launch::async, [&] {
      started.set_value(::pthread_self());
      return stage_.run(arguments);
    });
    const pthread_t caller = started.get_future().get();
    while (outcome.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) ::pthread_kill(caller, SIGINT);
    const Outcome said = outcome.get();
    EXPECT_EQ(said.exit_code, 1);
    EXPECT_THAT(said.err, HasSubstr("berth: " + c.told));
  }
  ::sigaction(SIGINT, &before, nullptr);
}

TEST_F(Cli, WhatCannotBeWrittenIsToldAndFails) {
  stage_.world.out = [failure = stage_.world.out_failure](std::string_view) {
    *failure = ENOSPC;
    return false;
  };
  Outcome outcome = stage_.run({"berth", "status"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err, "berth: standard output: No space left on device\n");
  EXPECT_EQ(stage_.run({"berth", "--help"}).exit_code, 1);
  stage_.world.out = [failure = stage_.world.out_failure](std::string_view) {
    *failure = EPIPE;
    return false;
  };
  outcome = stage_.run({"berth", "status", "--json"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "");
}

TEST_F(Cli, AttachIsMkdir) {
  EXPECT_EQ(expect_ok({"berth", "attach", "home/alice", "vm-1", "disk"}), "");
  EXPECT_TRUE(fs::is_directory(stage_.share_file("home/alice", "attachments/vm-1/disk")));
}

// As where an ordinary user's berth serves: the mount table does not show its namespace.
TEST_F(Cli, NamespaceOfTheUsersOwnIsEnteredWhereNoOtherIsSeen) {
  stage_.mounts.clear();
  stage_.world.own_namespaces = [this] {
    return std::vector<sys::OwnMount>{{.process = 17, .target = stage_.namespace_directory()}};
  };
  std::vector<pid_t> entered;
  stage_.world.enter = [&entered](const sys::OwnMount& mount) {
    entered.push_back(mount.process);
    return Result<>();
  };
  std::vector<std::string> executed;
  stage_.world.execute = [&executed](const std::vector<std::string>& arguments) {
    executed = arguments;
    return Error(ENOENT);
  };
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("media"));
  EXPECT_THAT(entered, testing::ElementsAre(17));
  EXPECT_EQ(stage_.run({"berth", "exec", "ls", "-l", "a b"}).exit_code, 127);
  EXPECT_THAT(executed, testing::ElementsAre("ls", "-l", "a b"));
  EXPECT_EQ(stage_.run({"berth", "exec", "-n", stage_.namespace_directory(), "--", "-x"}).exit_code, 127);
  EXPECT_THAT(executed, testing::ElementsAre("-x"));
}

/// A host may have a berth of root beside it, and a program sees all namespaces of the host.
TEST_F(Cli, ProgramIsExecutedWhereTheUsersOwnNamespaceIsSeenWhateverTheHostHas) {
  std::vector<sys::OwnMount> own{{.process = 17, .target = stage_.namespace_directory()}};
  stage_.world.own_namespaces = [&own] { return own; };
  std::vector<pid_t> entered;
  stage_.world.enter = [&entered](const sys::OwnMount& mount) {
    entered.push_back(mount.process);
    return Result<>();
  };
  stage_.world.execute = [](const std::vector<std::string>&) { return Error(ENOENT); };
  EXPECT_EQ(stage_.run({"berth", "exec", "ls"}).exit_code, 127);
  EXPECT_THAT(entered, testing::ElementsAre(17));
  own.clear();
  stage_.mounts.push_back(
      {.id = 31, .parent = 1, .root = "/", .target = "/srv/more", .type = "fuse.berth", .device = 41});
  EXPECT_EQ(stage_.run({"berth", "exec", "ls"}).exit_code, 127);
  EXPECT_EQ(stage_.run({"berth", "status"}).exit_code, 1);
  EXPECT_THAT(entered, testing::ElementsAre(17));
}

/// fusermount3(1) mounts a file system of any FUSE type for any user.
TEST_F(Cli, NamespaceOfAnotherUserIsNotCounted) {
  const std::string mine = stage_.root() + "/mine";
  constexpr uid_t kUser = 1000;
  constexpr uid_t kOther = 1001;
  stage_.mounts.push_back({.root = "/", .target = mine, .type = "fuse.berth", .device = 41, .user = kUser});
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("media"));  // as root
  stage_.world.user = kOther;
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("media"));
  // The user's own goes before that of root.
  stage_.world.user = kUser;
  EXPECT_THAT(stage_.run({"berth", "status"}).err, HasSubstr(mine));
  stage_.mounts.back().target = stage_.namespace_directory();
  stage_.mounts.front().target = "/nowhere";
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("media"));
  // Of root, it is the one that is not there.
  stage_.world.user = 0;
  EXPECT_EQ(stage_.run({"berth", "status"}).exit_code, 69);
}

TEST_F(Cli, NamespaceThatIsSeenAtTwoPlacesIsOne) {
  stage_.mounts.push_back({.root = "/", .target = "/mnt/bound", .type = "fuse.berth"});
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("media"));
}

TEST_F(Cli, NamespaceOfTheUsersOwnGoesBeforeThatOfRoot) {
  stage_.world.user = 1000;
  const std::string roots = std::exchange(stage_.mounts.front().target, "/nowhere");
  std::vector<sys::OwnMount> own{{.process = 17, .target = roots}};
  stage_.world.own_namespaces = [&own] { return own; };
  stage_.world.enter = [](const sys::OwnMount&) { return Result<>(); };
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("media"));
  // Its last process has ended meanwhile: then there is none.
  stage_.mounts.front().target = roots;
  own.front().target = "/nowhere";
  stage_.world.enter = [](const sys::OwnMount&) -> Result<> { return fail(ESRCH); };
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("media"));
}

/// What the alert of a berth that is down is made of.
TEST_F(Cli, MetricsForNodeExporterSayThatBerthIsDownWhereItIsAlone) {
  const std::string file = stage_.root() + "/berth.prom";
  const std::vector<std::string> command{"berth", "metrics", "--textfile", file};
  stage_.write_file(file, "berth_up 1\n");
  stage_.mounts.push_back({.root = "/", .target = "/srv/more", .type = "fuse.berth", .device = 41});
  EXPECT_EQ(stage_.run(command).exit_code, 1);
  EXPECT_EQ(stage_.read_file(file), "berth_up 1\n");
  stage_.mounts.clear();
  EXPECT_EQ(stage_.run(command).exit_code, 69);
  EXPECT_THAT(stage_.read_file(file), HasSubstr("berth_up 0\n"));
}

TEST_F(Cli, NamespaceThatTheConfigurationNamesAnewIsThatOfTheNextStart) {
  fs::remove_all(stage_.namespace_directory());
  const Outcome outcome = stage_.run({"berth", "reload", "--config", "/named.toml"});
  EXPECT_EQ(outcome.exit_code, 69);
  EXPECT_THAT(outcome.err, HasSubstr("; where the configuration named another one before, restart berth\n"));
}

TEST_F(Cli, AttachingTwiceIsAttachingOnce) {
  expect_ok({"berth", "attach", "media", "vm-1", "disk"});
  expect_ok({"berth", "attach", "media", "vm-1", "disk"});
  expect_ok({"berth", "detach", "media", "vm-1", "disk"});
  EXPECT_FALSE(fs::exists(stage_.share_file("media", "attachments/vm-1")));
}

TEST_F(Cli, AFailedAttachLeavesNoInstance) {
  expect_ok({"berth", "attach", "media", "kept", "a"});
  const auto attach_failing_at_the_volume = [this](const std::string& instance) {
    const Fault fault(EHOSTDOWN, 1);
    return stage_.run({"berth", "attach", "media", instance, "b"}).exit_code;
  };
  EXPECT_EQ(attach_failing_at_the_volume("new"), 1);
  EXPECT_FALSE(fs::exists(stage_.share_file("media", "attachments/new")));
  EXPECT_EQ(attach_failing_at_the_volume("kept"), 1);
  EXPECT_TRUE(fs::exists(stage_.share_file("media", "attachments/kept/a")));
}

TEST_F(Cli, DetachIsRmdirAndLeavesOtherVolumes) {
  expect_ok({"berth", "attach", "media", "vm-1", "a"});
  expect_ok({"berth", "attach", "media", "vm-1", "b"});
  EXPECT_EQ(expect_ok({"berth", "detach", "media", "vm-1", "a"}), "");
  EXPECT_FALSE(fs::exists(stage_.share_file("media", "attachments/vm-1/a")));
  EXPECT_TRUE(fs::exists(stage_.share_file("media", "attachments/vm-1/b")));
}

TEST_F(Cli, ControlCommandsWriteOneWord) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> commands{
      {{"berth", "mount", "media"}, "mount\n"},
      {{"berth", "unmount", "media"}, "unmount\n"},
      {{"berth", "unmount", "--force", "media"}, "force-unmount\n"},
      {{"berth", "unmount", "media", "-f"}, "force-unmount\n"},
      {{"berth", "retry", "media"}, "retry\n"},
  };
  for (const auto& [arguments, word] : commands) {
    stage_.write_file(stage_.share_file("media", "control"), "");
    EXPECT_EQ(expect_ok(arguments), "");
    EXPECT_EQ(stage_.read_file(stage_.share_file("media", "control")), word);
  }
}

TEST_F(Cli, AShareMayHaveTheNameOfACommandOrOfAnOption) {
  stage_.add_share({.name = "mount", .type = "bind", .state = "idle"});
  stage_.add_share({.name = "--json", .type = "bind", .state = "idle"});
  EXPECT_THAT(expect_ok({"berth", "status", "mount"}), HasSubstr("name:         mount\n"));
  EXPECT_THAT(expect_ok({"berth", "status", "--", "--json"}), HasSubstr("name:         --json\n"));
}

TEST_F(Cli, NamesWithStrangeBytesReachTheTreeUnchanged) {
  const std::string name = "a b\"\xff$(id)";
  stage_.add_share({.name = name, .type = "bind", .state = "idle"});
  expect_ok({"berth", "attach", name, "vm *\n", "\xfe;"});
  EXPECT_TRUE(fs::is_directory(stage_.share_file(name, "attachments/vm *\n/\xfe;")));
}

TEST_F(Cli, TheOptionStandsAboveTheVariableAndThatAboveTheMountTable) {
  Stage other;
  other.add_share({.name = "other", .type = "bind", .state = "idle"});
  other.publish();
  Stage third;
  third.publish();
  stage_.environment["BERTH_NAMESPACE"] = other.namespace_directory();
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("1 share"));
  EXPECT_THAT(expect_ok({"berth", "--namespace", third.namespace_directory(), "status"}), HasSubstr("0 shares"));
  EXPECT_THAT(expect_ok({"berth", "status", "-n", third.namespace_directory() + "/"}), HasSubstr("0 shares"));
  stage_.environment.clear();
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("3 shares"));
}

TEST_F(Cli, OnlyWholeNamespacesInTheMountTableCount) {
  stage_.mounts.insert(stage_.mounts.begin(), {.root = "/", .target = "/", .type = "ext4"});
  stage_.mounts.push_back({.root = "/media", .target = "/mnt/media", .type = "fuse.berth"});
  stage_.mounts.push_back({.root = "/", .target = stage_.namespace_directory(), .type = "fuse.berth"});
  EXPECT_THAT(expect_ok({"berth", "status"}), HasSubstr("3 shares"));
}

// [control] readers = "group" closes the tree to others. Root may read everything, so the test becomes another user.
TEST_F(Cli, WhoMayNotReadTheTreeIsTold) {
  fs::permissions(stage_.root(), fs::perms::owner_all | fs::perms::others_exec | fs::perms::group_exec);
  fs::permissions(stage_.namespace_directory(), fs::perms::none);
  const bool root = ::geteuid() == 0;
  constexpr uid_t kNobody = 65534;
  if (root) {
    ASSERT_EQ(::seteuid(kNobody), 0);
  }
  const Outcome status = stage_.run({"berth", "status"});
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  fs::permissions(stage_.namespace_directory(), fs::perms::owner_all);
  EXPECT_EQ(status.exit_code, 77);
  EXPECT_THAT(status.err, HasSubstr("you may not read its control tree"));
}

TEST_F(Cli, EventsEndsWhereTheFileEnds) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text.append(formats::render_event({.when = kMoment, .kind = "lost", .share = "a"}));
  stage_.write_file(stage_.namespace_directory() + "/.berth/events", text);
  EXPECT_EQ(expect_ok({"berth", "events"}), text);
}

TEST_F(Cli, EventsStopsWhenNobodyReadsThem) {
  stage_.write_file(stage_.namespace_directory() + "/.berth/events", "one\n");
  std::string seen;
  stage_.world.out = [&seen](std::string_view text) {
    seen.append(text);
    return false;
  };
  EXPECT_EQ(expect_ok({"berth", "events", "--follow"}), "");
  EXPECT_EQ(seen, "one\n");
}

// A pipe waits for more as the control tree's file does.
TEST_F(Cli, EventsFollowsWhatComes) {
  const std::string path = stage_.namespace_directory() + "/.berth/events";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const UniqueFd writer(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  std::string seen;
  const auto tell = [&writer](std::string_view text) {
    EXPECT_EQ(::write(writer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  };
  stage_.world.out = [&](std::string_view text) {
    seen.append(text);
    if (seen == "one\n") tell("two\n");
    return seen != "one\ntwo\n";
  };
  tell("one\n");
  EXPECT_EQ(expect_ok({"berth", "events", "-f"}), "");
  EXPECT_EQ(seen, "one\ntwo\n");
}

// Opening a pipe for writing waits for a reader, as a control write waits for the mount.
TEST_F(Cli, ALongWaitShowsProgressOnATerminalAndWipesIt) {
  const std::string control = stage_.share_file("media", "control");
  fs::remove(control);
  ASSERT_EQ(::mkfifo(control.c_str(), 0600), 0);
  stage_.world.err_is_terminal = true;
  stage_.world.progress_interval = std::chrono::milliseconds(1);
  auto outcome = std::async(std::launch::async, [this] { return stage_.run({"berth", "mount", "media"}); });
  while (stage_.err_so_far().find("mounting media from nfs1:/media ... 0s of 30s") == std::string::npos)
    std::this_thread::yield();
  const UniqueFd reader(::open(control.c_str(), O_RDONLY | O_CLOEXEC));
  const Outcome end = outcome.get();
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_TRUE(end.err.ends_with("\r\033[K")) << end.err;
}

TEST_F(Cli, DrainShowsWhatItWaitsForInOneLine) {
  const std::string control = stage_.namespace_directory() + "/.berth/control";
  fs::remove(control);
  ASSERT_EQ(::mkfifo(control.c_str(), 0600), 0);
  stage_.world.err_is_terminal = true;
  stage_.world.progress_interval = std::chrono::milliseconds(1);
  std::string expected = "\r\033[Kdraining ... 0s; in use: media (3 users)\r";
  for (const std::size_t width : {0U, 40U}) {
    if (width != 0) {
      stage_.world.err_width = width;
      expected = "\r\033[Kdraining ... 0s; in use: me...(3 users)\r";
    }
    auto outcome = std::async(std::launch::async, [this] { return stage_.run({"berth", "drain"}); });
    while (stage_.err_so_far().find(expected) == std::string::npos) std::this_thread::yield();
    const UniqueFd reader(::open(control.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(outcome.get().exit_code, 0);
  }
}

TEST_F(Cli, StatusOfAShareTellsTimesAsOfNowOnATerminal) {
  stage_.world.now = [] { return kMoment + std::chrono::minutes(3); };
  EXPECT_EQ(expect_ok({"berth", "status", "media"}), stage_.read_file(stage_.share_file("media", "status")));
  stage_.world.out_is_terminal = true;
  EXPECT_THAT(expect_ok({"berth", "status", "media"}), HasSubstr("\nsince:        3m ago\n"));
  EXPECT_THAT(expect_ok({"berth", "status", "broken"}), HasSubstr("\nlast error:   3m ago EHOSTDOWN"));
}

TEST_F(Cli, ThereIsNoProgressWithoutATerminal) {
  stage_.world.progress_interval = std::chrono::milliseconds(0);
  expect_ok({"berth", "mount", "media"});
  expect_ok({"berth", "attach", "media", "vm", "disk"});
}

TEST_F(Cli, ServeIsStartedWithWhatWasSaid) {
  const std::string config = stage_.root() + "/x.toml";
  expect_ok({"berth", "serve", "--config", config, "--namespace", "/a/../v/", "--share", "a=/srv//a/", "--share",
             "b/c=/srv/x=y", "--log-level", "debug", "--foreground"});
  ASSERT_TRUE(stage_.served);
  EXPECT_EQ(*stage_.served, (cli::ServeOptions{.config = config,
                                               .namespace_directory = "/v",
                                               .log_level = "debug",
                                               .shares = {{"a", "/srv/a"}, {"b/c", "/srv/x=y"}},
                                               .background = false}));
}

TEST_F(Cli, ServeMakesPathsAbsolute) {
  expect_ok({"berth", "serve", "-c", "x.toml", "--share", "a=.", "-n", "v"});
  ASSERT_TRUE(stage_.served);
  const std::string here = fs::current_path().string();
  EXPECT_EQ(stage_.served->config, here + "/x.toml");
  EXPECT_EQ(stage_.served->namespace_directory, here + "/v");
  EXPECT_EQ(stage_.served->shares.at(0).directory, here);
}

TEST_F(Cli, ServeReadsTheDefaultConfigurationOnlyWithoutQuickShares) {
  stage_.write_file(stage_.world.default_config, "");
  expect_ok({"berth", "serve"});
  EXPECT_EQ(stage_.served->config, stage_.world.default_config);
  expect_ok({"berth", "serve", "--share", "a=/srv", "--namespace", "/v"});
  EXPECT_EQ(stage_.served->config, "");
}

TEST_F(Cli, ServeAndCheckEndAsTheirProgramsDo) {
  stage_.program_exit_code = 71;
  EXPECT_EQ(stage_.run({"berth", "serve", "--config", "/x"}).exit_code, 71);
  EXPECT_EQ(stage_.run({"berth", "check", "/x/../y.toml"}).exit_code, 71);
  EXPECT_EQ(stage_.checked->config, "/y.toml");
  stage_.write_file(stage_.world.default_config, "");
  EXPECT_EQ(stage_.run({"berth", "check"}).exit_code, 71);
  EXPECT_EQ(stage_.checked->config, stage_.world.default_config);
  EXPECT_FALSE(stage_.checked->strict || stage_.checked->offline);
  stage_.run({"berth", "check", "--strict", "--offline"});
  EXPECT_TRUE(stage_.checked->strict && stage_.checked->offline);
  EXPECT_EQ(stage_.run({"berth", "doctor", "--json"}).exit_code, 71);
  EXPECT_EQ(stage_.diagnosed->config, stage_.world.default_config);
  EXPECT_TRUE(stage_.diagnosed->json);
}

TEST_F(Cli, UpgradeAsksTheNamespaceThatAConfigurationNames) {
  stage_.mounts.clear();
  EXPECT_NE(stage_.run({"berth", "upgrade"}).exit_code, 0);
  expect_ok({"berth", "upgrade", "--config", "/named.toml"});
  const Outcome wrong = stage_.run({"berth", "upgrade", "--config", "/wrong.toml"});
  EXPECT_EQ(wrong.exit_code, 78);
  EXPECT_EQ(wrong.err, "berth: upgrade: /wrong.toml: wrong\n");
}

class MountHelper : public Cli {};

TEST_F(MountHelper, ServesInTheBackground) {
  expect_ok({"/sbin/mount.berth", "berth", "/volumes/", "-o",
             "rw,config=/etc/x.toml,share=a=/srv/a,x-systemd.automount,_netdev,nofail,share=b=/srv/b,log-level=debug"});
  ASSERT_TRUE(stage_.served);
  EXPECT_EQ(*stage_.served, (cli::ServeOptions{.config = "/etc/x.toml",
                                               .namespace_directory = "/volumes",
                                               .log_level = "debug",
                                               .shares = {{"a", "/srv/a"}, {"b", "/srv/b"}},
                                               .background = true}));
}

TEST_F(MountHelper, TakesOptionsAsMountPassesThem) {
  for (const std::vector<std::string>& options : std::vector<std::vector<std::string>>{
           {"-v", "-n", "-o", "config=/etc/x.toml"},
           {"-vno", "config=/etc/x.toml"},
           {"-oconfig=/etc/x.toml", "-t", "berth", "-N", "/proc/1/ns/mnt"},
           {"-s", "-o", "what=ever,config=/etc/x.toml,subvol"},
           {"-o", "defaults,,user,nosuid,nodev,noatime,comment=x", "-o", "config=/etc/x.toml"},
           {"-o", "\"config=/etc/x.toml\""}}) {
    stage_.served.reset();
    std::vector<std::string> arguments{"mount.berth", "berth", "/volumes"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    expect_ok(arguments);
    ASSERT_TRUE(stage_.served) << testing::PrintToString(options);
    EXPECT_EQ(stage_.served->config, "/etc/x.toml");
  }
}

TEST_F(MountHelper, TakesCommasInQuotes) {
  expect_ok({"mount.berth", "berth", "/volumes", "-o", "config=\"/etc/a,ro,b\",rw"});
  EXPECT_EQ(stage_.served->config, "/etc/a,ro,b");
}

TEST_F(MountHelper, FakeStartsNothing) {
  expect_ok({"mount.berth", "berth", "/volumes", "-sfnv", "-o", "config=/etc/x.toml"});
  EXPECT_FALSE(stage_.served);
}

TEST_F(MountHelper, RemountSucceedsWhereNothingNeedChange) {
  stage_.publish();
  const std::string directory = stage_.namespace_directory();
  // As fstab says it, as the mount table does, and as systemctl reload of the mount unit does.
  for (const char* options : {"rw,remount,config=/etc/berth/berth.toml,_netdev,nofail,x-systemd.automount", "remount",
                              "rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other,remount",
                              "remount,config=/etc/berth/berth.toml,log-level=info"}) {
    expect_ok({"/sbin/mount.berth", "berth", directory + "/", "-o", options});
    expect_ok({"/sbin/mount.fuse.berth", "berth", directory, "-o", options, "-t", "fuse.berth"});
    EXPECT_FALSE(stage_.served);
  }
}

TEST_F(MountHelper, RemountThatAsksForAChangeSaysWhatAndWhatToDo) {
  stage_.publish();
  struct Case {
    std::string options, told;
  };
  for (const Case& wrong : {Case{"remount,config=/etc/other.toml", "\"config\""},
                            Case{"remount,config=/etc/berth/berth.toml,share=a=/srv/a", "\"share\""},
                            Case{"remount,config=/etc/berth/berth.toml,state-dir=/srv/a", "\"state-dir\""},
                            Case{"remount,config=/etc/berth/berth.toml,log-level=debug", "\"log-level\""}}) {
    const Outcome outcome = stage_.run({"mount.berth", "berth", stage_.namespace_directory(), "-o", wrong.options});
    EXPECT_EQ(outcome.exit_code, 32) << wrong.options;
    EXPECT_NE(outcome.err.find(wrong.told), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("unmount it, and mount it again"), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(stage_.run({"mount.berth", "berth", stage_.namespace_directory(), "-o", "remount,ro"}).exit_code, 1);
  EXPECT_FALSE(stage_.served);
}

TEST_F(MountHelper, RemountOfWhatIsNotServedFails) {
  EXPECT_EQ(stage_.run({"mount.berth", "berth", stage_.root(), "-o", "remount"}).exit_code, 32);
  Stage dead;  // mounted, but no berth answers
  EXPECT_EQ(dead.run({"mount.berth", "berth", dead.namespace_directory(), "-o", "remount"}).exit_code, 32);
  EXPECT_FALSE(stage_.served);
}

TEST_F(MountHelper, EndsAsMountExpects) {
  stage_.program_exit_code = 78;
  EXPECT_EQ(stage_.run({"mount.berth", "berth", "/volumes", "-o", "config=/etc/x.toml"}).exit_code, 32);
  EXPECT_EQ(stage_.run({"mount.berth", "berth", "/volumes", "-o", "ro"}).exit_code, 1);
}

TEST_F(Cli, AddSaysWhatTheReloadSays) {
  stage_.write_file(stage_.namespace_directory() + "/.berth/reload", "+1 added\n");
  EXPECT_EQ(expect_ok({"berth", "add", "a", "-t", "nfs", "-s", "x:/a", "--source", "y:/a", "-o", "ro", "--option",
                       "vers=4", "--set", "environment=[\"A=b\"]", "--config", "/named.toml"}),
            "wrote /etc/berth/shares.d/a.toml\n+1 added\n");
  EXPECT_EQ(stage_.read_file(stage_.namespace_directory() + "/.berth/control"), "reload\n");
  ASSERT_TRUE(stage_.added);
  EXPECT_EQ(stage_.added->config, "/named.toml");
  EXPECT_EQ(stage_.added->sources, (std::vector<std::string>{"x:/a", "y:/a"}));
  EXPECT_EQ(stage_.added->options, (std::vector<std::string>{"ro", "vers=4"}));
  EXPECT_EQ(stage_.added->settings, (std::vector<std::pair<std::string, std::string>>{{"environment", "[\"A=b\"]"}}));
  EXPECT_FALSE(stage_.undone);
  expect_ok({"berth", "add", "--type", "bind", "--config", "/named.toml", "--", "-y"});
  EXPECT_EQ(stage_.added->name, "-y");
}

TEST_F(Cli, WhatTheReloadRefusesIsUndone) {
  stage_.write_file(stage_.world.default_config, "");
  stage_.write_file(stage_.namespace_directory() + "/.berth/reload", "--share a: it is there already\n");
  const Fault fault(EINVAL);
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"berth", "add", "a", "--type", "bind"}, {"berth", "remove", "a"}}) {
    stage_.undone = false;
    const Outcome outcome = stage_.run(command);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err,
                HasSubstr("berth: " + command[1] + ": refused, and going on as before:\n--share a: it is there"));
    EXPECT_THAT(outcome.err, HasSubstr("berth: " + command[1] + ": a: undone\n"));
    EXPECT_TRUE(stage_.undone);
  }
}

TEST_F(Cli, ImportPrintsTheConfigurationAndCountsWhatIsLeftOut) {
  stage_.imported = cli::Imported{"[berth]\n", 2, 0};
  Outcome outcome = stage_.run({"berth", "import", "autofs"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, "[berth]\n");
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(stage_.import_asked, (cli::ImportOptions{"/etc/auto.master", ""}));

  stage_.imported->faults = 3;
  outcome = stage_.run({"berth", "import", "autofs", "/etc/maps/auto.master", "--namespace", "/home"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "berth: import: /etc/maps/auto.master: 2 shares; not carried over: 3, see the comments\n");
  EXPECT_EQ(stage_.import_asked, (cli::ImportOptions{"/etc/maps/auto.master", "/home"}));

  // An output of a few lines does not show that there is nothing in it.
  stage_.imported = cli::Imported{"[berth]\n", 0, 0};
  EXPECT_EQ(stage_.run({"berth", "import", "autofs"}).err, "berth: import: /etc/auto.master: 0 shares\n");
  stage_.imported = cli::Imported{"[berth]\n", 1, 1};
  EXPECT_THAT(stage_.run({"berth", "import", "autofs"}).err, HasSubstr(": 1 share; not carried over: 1"));
}

TEST_F(Cli, ImportOfWhatCannotBeReadFails) {
  stage_.imported = fail(ENOENT, "\"/etc/auto.master\" cannot be read: why");
  const Outcome outcome = stage_.run({"berth", "import", "autofs"});
  EXPECT_EQ(outcome.exit_code, 78);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "berth: import: \"/etc/auto.master\" cannot be read: why\n");
  EXPECT_EQ(stage_.run({"berth", "import", "fstab"}).exit_code, 64);
  EXPECT_EQ(stage_.run({"berth", "import"}).exit_code, 64);
}

TEST_F(Cli, AddWithoutABerthIsForItsNextStart) {
  stage_.write_file(stage_.world.default_config, "");
  stage_.mounts.clear();
  fs::remove_all(stage_.namespace_directory());
  const Outcome outcome = stage_.run({"berth", "add", "a", "--type", "bind", "--source", "/srv"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("; this is in force at its next start\n"));
  EXPECT_FALSE(stage_.undone);
}

TEST_F(Cli, ShareThatStandsElsewhereIsNotRemoved) {
  stage_.write_file(stage_.world.default_config, "");
  stage_.change = fail(EBUSY, "it stands in /etc/berth/berth.toml:4");
  const Outcome outcome = stage_.run({"berth", "remove", "a"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("berth: remove: a: it stands in /etc/berth/berth.toml:4"));
}

}  // namespace
}  // namespace berth::test
