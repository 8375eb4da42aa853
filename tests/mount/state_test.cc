// Attachments on a real disk, with the whole daemon: what mkdir answered stays, whatever is killed.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;

class State : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = server_.make_directory("source");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
  }
  void TearDown() override {
    if (mounted_) ::umount2(server_.path("state").c_str(), MNT_DETACH);
  }
  [[nodiscard]] std::string share(const std::string& name) const {
    return "[share." + name + "]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n";
  }
  void start(const std::string& shares) { ASSERT_TRUE(ok(server_.start(shares))); }
  [[nodiscard]] std::string place(const std::string& name) const {
    return server_.in_namespace(".berth/shares/a/attachments/" + name);
  }
  /// mkdir of "instance/volume": the errno value.
  int attach(const std::string& name) {
    const std::string instance = place(name.substr(0, name.find('/')));
    if (::mkdir(instance.c_str(), 0755) != 0 && errno != EEXIST) return errno;
    return ::mkdir(place(name).c_str(), 0755) == 0 ? 0 : errno;
  }
  int detach(const std::string& name) { return ::rmdir(place(name).c_str()) == 0 ? 0 : errno; }
  [[nodiscard]] bool is_attached(const std::string& name) const { return fs::is_directory(place(name)); }
  [[nodiscard]] std::uint64_t users() const { return server_.read_json("shares/a/status.json").value("users", 0U); }

  /// Puts a small file system where the state is kept.
  void mount_small_state(unsigned long flags = 0, const char* options = "size=64k,nr_inodes=64,mode=700") {
    server_.make_directory("state");
    ASSERT_EQ(::mount("tmpfs", server_.path("state").c_str(), "tmpfs", flags, options), 0);
    mounted_ = true;
  }
  /// Takes all of its room.
  void fill_state() {
    const UniqueFd file(::open(server_.path("state/filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(file);
    const std::string block(4096, 'x');
    while (::write(file.get(), block.data(), block.size()) > 0) {
    }
    ASSERT_EQ(errno, ENOSPC);
  }

  BerthServer server_;
  std::string source_;
  bool mounted_ = false;
};

TEST_F(State, AttachmentsOutliveTheKillingOfEverything) {
  start(share("a"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  ASSERT_EQ(attach("vm1/other"), 0);
  ASSERT_EQ(attach("vm2/a b%\n\xff"), 0);
  ASSERT_EQ(detach("vm1/other"), 0);
  server_.kill_all();
  start(share("a"));
  EXPECT_TRUE(is_attached("vm1/disk"));
  EXPECT_TRUE(is_attached("vm2/a b%\n\xff"));
  EXPECT_FALSE(is_attached("vm1/other"));
  ASSERT_TRUE(server_.wait_for_state("a", "mounted")) << "no program has touched it";
  EXPECT_TRUE(eventually([&] { return users() == 2U; })) << users();
  EXPECT_EQ(detach("vm1/disk"), 0);
  EXPECT_EQ(detach("vm2/a b%\n\xff"), 0);
  EXPECT_EQ(server_.stop(), Ending{});
  start(share("a"));
  EXPECT_FALSE(is_attached("vm1/disk"));
  EXPECT_EQ(server_.state("a"), "idle");
}

TEST_F(State, EverythingThatMkdirAndRmdirHaveAnsweredSurvives) {
  start(share("a"));
  const auto make = [this](const std::string& name) { return ::mkdir(place(name).c_str(), 0755) == 0 ? 0 : errno; };
  ASSERT_EQ(make("vm1"), 0);
  ASSERT_EQ(make("vm2"), 0);
  ASSERT_EQ(detach("vm2"), 0);
  const UniqueFd held(::open(place("vm1").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  server_.kill_server();
  struct stat attributes {};
  EXPECT_EQ(::fstat(held.get(), &attributes), 0) << "the next server knows the nodes of the one before";
  EXPECT_EQ(::mkdirat(held.get(), "held", 0755), 0);
  EXPECT_EQ(::unlinkat(held.get(), "held", AT_REMOVEDIR), 0);
  EXPECT_EQ(make("vm1"), EEXIST);
  EXPECT_EQ(make("vm2/disk"), ENOENT);
  ASSERT_EQ(make("vm1/disk"), 0);
  ASSERT_EQ(detach("vm1/disk"), 0);
  server_.kill_server();
  EXPECT_TRUE(is_attached("vm1")) << "it was made, and not removed";
  ASSERT_EQ(make("vm1/disk"), 0);
  server_.kill_all();
  start(share("a"));
  ASSERT_EQ(detach("vm1/disk"), 0);
  ASSERT_EQ(make("vm1/other"), 0);
  EXPECT_EQ(detach("vm1"), ENOTEMPTY);
  ASSERT_EQ(detach("vm1/other"), 0);
  ASSERT_EQ(detach("vm1"), 0);
  server_.kill_all();
  start(share("a"));
  EXPECT_FALSE(is_attached("vm1"));
}

TEST_F(State, AnAttachmentSaysWhichProcessHasMadeItAndIsNoEmptyDirectory) {
  start(share("a"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  const std::string before = server_.read_control("shares/a/attachments/vm1/disk/attached").value_or("");
  EXPECT_NE(before.find("uid:      0\n"), std::string::npos) << before;
  EXPECT_NE(before.find("pid:      " + std::to_string(::getpid()) + "\n"), std::string::npos) << before;
  EXPECT_NE(before.find("since:    20"), std::string::npos) << before;
  const std::string tidy = "find '" + place("") + "' -depth -type d -empty -delete";
  EXPECT_EQ(std::system(tidy.c_str()), 0);
  EXPECT_TRUE(is_attached("vm1/disk"));
  server_.kill_all();
  start(share("a"));
  EXPECT_EQ(server_.read_control("shares/a/attachments/vm1/disk/attached").value_or(""), before);
  EXPECT_EQ(::rename(place("vm1/disk/attached").c_str(), place("vm1/disk/x").c_str()), -1);
  EXPECT_EQ(::unlink(place("vm1/disk/attached").c_str()), -1);
  EXPECT_EQ(detach("vm1/disk"), 0);
}

TEST_F(State, AttachmentsOutliveACleanStop) {
  start(share("a"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  EXPECT_EQ(server_.stop(), Ending{});
  start(share("a"));
  EXPECT_TRUE(server_.wait_for_state("a", "mounted"));
}

TEST_F(State, ServerThatIsAwayAtTheStartIsTriedAgain) {
  start(share("a"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  server_.kill_all();
  fs::rename(source_, source_ + ".away");
  start(share("a"));
  ASSERT_TRUE(server_.wait_for_state("a", "failed"));
  EXPECT_TRUE(is_attached("vm1/disk"));
  fs::rename(source_ + ".away", source_);
  EXPECT_TRUE(server_.wait_for_state("a", "mounted"));
}

TEST_F(State, FullDiskFailsTheMkdirAndKeepsWhatIsThere) {
  mount_small_state();
  start(share("a"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  fill_state();
  // Room for some more may have been taken along with the first.
  int last = 0;
  int attached = 0;
  while ((last = attach("vm1/" + std::string(200, 'x') + std::to_string(attached))) == 0) ++attached;
  EXPECT_EQ(last, ENOSPC);
  EXPECT_LT(attached, 100);
  EXPECT_EQ(users(), static_cast<std::uint64_t>(attached) + 1);
  EXPECT_NE(server_.read_control("status").value_or("").find("warning: cannot record"), std::string::npos);
  // Giving back is possible all the same, to the last.
  for (int i = 0; i < attached; ++i) EXPECT_EQ(detach("vm1/" + std::string(200, 'x') + std::to_string(i)), 0);
  EXPECT_EQ(users(), 1U);
  server_.kill_all();
  start(share("a"));
  EXPECT_TRUE(is_attached("vm1/disk"));
  EXPECT_TRUE(server_.wait_for_state("a", "mounted"));
  EXPECT_TRUE(eventually([&] { return users() == 1U; }));
  EXPECT_EQ(detach("vm1/disk"), 0);
  EXPECT_EQ(server_.stop(), Ending{});
}

/// When most of the file is history it is written anew, and that takes more room than a line.
TEST_F(State, FullDiskTakesBackEachOfManyAttachments) {
  mount_small_state(0, "size=256k,nr_inodes=64,mode=700");
  start(share("a"));
  constexpr int kMany = 1000;
  for (int i = 0; i < kMany; ++i) ASSERT_EQ(attach("vm1/disk" + std::to_string(i)), 0) << i;
  fill_state();
  for (int i = 0; i < kMany; ++i) ASSERT_EQ(detach("vm1/disk" + std::to_string(i)), 0) << i;
  EXPECT_EQ(users(), 0U);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(State, FullDiskAtTheFirstAttachmentLeavesNothing) {
  mount_small_state();
  start(share("a"));
  fill_state();
  EXPECT_EQ(attach("vm1/disk"), ENOSPC);
  EXPECT_EQ(users(), 0U);
  EXPECT_FALSE(is_attached("vm1/disk"));
  fs::remove(server_.path("state/filler"));
  EXPECT_EQ(attach("vm1/disk"), 0) << "and goes on when there is room again";
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(State, ReadOnlyDiskFailsTheMkdir) {
  mount_small_state();
  start(share("a"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  ASSERT_EQ(server_.stop(), Ending{});
  ASSERT_EQ(::mount(nullptr, server_.path("state").c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
  start(share("a"));
  EXPECT_TRUE(server_.wait_for_state("a", "mounted")) << "what was attached is all the same";
  EXPECT_EQ(attach("vm1/other"), EROFS);
  EXPECT_EQ(detach("vm1/disk"), EROFS);
  EXPECT_TRUE(is_attached("vm1/disk"));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(State, DirectoryThatCannotBeMadeFailsTheMkdirAndNothingElse) {
  ASSERT_TRUE(ok(server_.write_file("state", "in the way")));
  start(share("a"));
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_EQ(attach("vm1/disk"), ENOTDIR);
  EXPECT_NE(server_.log().find("the state directory cannot be used"), std::string::npos);
  EXPECT_EQ(server_.stop(), Ending{});
  fs::remove(server_.path("state"));
}

TEST_F(State, RemovedDirectoryIsMadeAgainAtTheNextChangeAndToldOf) {
  start(share("a"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  const std::string gone = ": it was removed or moved away while berth ran; made again";
  for (int life = 0; life < 2; ++life) {
    fs::remove_all(server_.path("state"));
    ASSERT_EQ(attach("vm1/disk" + std::to_string(life)), 0);
    EXPECT_TRUE(
        eventually([&] { return server_.read_control("status").value_or("").find(gone) != std::string::npos; }));
    EXPECT_NE(server_.read_control("events").value_or("").find(" state-damaged reason="), std::string::npos);
    EXPECT_NE(server_.log().find(gone), std::string::npos);
    ASSERT_NO_FATAL_FAILURE(server_.kill_server());
    EXPECT_TRUE(is_attached("vm1/disk"));
  }
  server_.kill_all();
  start(share("a"));
  EXPECT_TRUE(is_attached("vm1/disk"));
}

TEST_F(State, DirectoryThatCannotBeMadeAgainIsToldOfUntilItCan) {
  start(share("a"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  ASSERT_TRUE(ok(server_.write_file("moved", "in the way")));
  ASSERT_EQ(
      ::renameat2(AT_FDCWD, server_.path("state").c_str(), AT_FDCWD, server_.path("moved").c_str(), RENAME_EXCHANGE),
      0);
  const auto is_told = [&] {
    return server_.read_control("status").value_or("").find("warning: the state directory is gone") !=
           std::string::npos;
  };
  EXPECT_NE(attach("vm1/other"), 0);
  EXPECT_TRUE(eventually(is_told));
  EXPECT_NE(server_.log().find("the state directory is gone"), std::string::npos);
  fs::remove(server_.path("state"));
  EXPECT_EQ(attach("vm1/other"), 0);
  EXPECT_TRUE(eventually([&] { return !is_told(); }));
  server_.kill_all();
  start(share("a"));
  EXPECT_TRUE(is_attached("vm1/disk"));
  EXPECT_TRUE(is_attached("vm1/other"));
}

TEST_F(State, DamagedFileIsReportedSetAsideAndStopsNothing) {
  const std::string two = share("a") + share("b");
  start(two);
  ASSERT_EQ(attach("vm1/disk"), 0);
  const std::string of_b = server_.in_namespace(".berth/shares/b/attachments/vm1");
  ASSERT_EQ(::mkdir(of_b.c_str(), 0755), 0);
  ASSERT_EQ(::mkdir((of_b + "/disk").c_str(), 0755), 0);
  server_.kill_all();
  std::string damaged;
  for (const auto& entry : fs::recursive_directory_iterator(server_.path("state"))) {
    if (entry.path().filename().string().starts_with("a-")) damaged = entry.path();
  }
  ASSERT_FALSE(damaged.empty());
  fs::resize_file(damaged, 20);
  start(two);
  EXPECT_TRUE(server_.wait_for_state("b", "mounted"));
  EXPECT_EQ(server_.state("a"), "idle");
  const auto damages = server_.read_json("status.json")["state"]["damages"];
  ASSERT_EQ(damages.size(), 1U);
  EXPECT_EQ(damages[0].value("file", ""), damaged);
  EXPECT_EQ(fs::file_size(damages[0].value("set_aside", "")), 20U);
  EXPECT_NE(server_.read_control("status").value_or("").find("its first line cannot be read"), std::string::npos);
  EXPECT_NE(server_.read_control("events").value_or("").find(" state-damaged reason="), std::string::npos);
  EXPECT_NE(server_.log().find("state-damaged"), std::string::npos);
  EXPECT_EQ(attach("vm1/disk"), 0);
}

/// The state lies on an sshfs whose other side stops.
TEST_F(State, DiskThatDoesNotAnswerHoldsUpNoTakeover) {
  if (::access("/usr/bin/sshfs", X_OK) != 0 || ::access("/usr/lib/openssh/sftp-server", X_OK) != 0)
    GTEST_SKIP() << "takes sshfs and sftp-server";
  const std::string side = server_.path("side");
  ASSERT_TRUE(ok(server_.write_file("pipe", "#!/bin/sh\necho $$ >" + side + "\nexec /usr/lib/openssh/sftp-server\n")));
  ASSERT_EQ(::chmod(server_.path("pipe").c_str(), 0755), 0);
  const std::string command = "sshfs -o ssh_command=" + server_.path("pipe") +
                              " root@far:" + server_.make_directory("far") + " " + server_.make_directory("state");
  ASSERT_EQ(std::system(command.c_str()), 0);
  mounted_ = true;
  ASSERT_TRUE(ok(server_.start("[berth]\ntakeover_timeout = \"4s\"\n" + share("a"))));
  ASSERT_EQ(attach("vm1/disk"), 0);
  const UniqueFd file(::open(server_.in_namespace("a/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  const pid_t stopped = std::stoi(server_.read_file("side").value_or("0"));
  ASSERT_GT(stopped, 0);
  ASSERT_EQ(::kill(stopped, SIGSTOP), 0);
  ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return server_.log().find("has taken over") != std::string::npos; })) << server_.log();
  const auto damages = server_.read_json("status.json")["state"]["damages"];
  ::kill(stopped, SIGCONT);
  ASSERT_EQ(damages.size(), 1U);
  EXPECT_NE(damages[0].value("reason", "").find("does not answer"), std::string::npos) << damages;
  EXPECT_EQ(server_.state("a"), "mounted");
  char text[5] = {};
  EXPECT_EQ(::pread(file.get(), text, sizeof text, 0), 5) << errno_name(errno);
  EXPECT_EQ(attach("vm2/disk"), 0) << "the disk answers again";
  EXPECT_EQ(server_.stop(), Ending{});
  ASSERT_TRUE(ok(server_.start(share("a"))));
  EXPECT_TRUE(is_attached("vm1/disk"));
  EXPECT_TRUE(is_attached("vm2/disk"));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(State, ShareThatIsNoLongerConfiguredKeepsItsAttachments) {
  start(share("a") + share("b"));
  ASSERT_EQ(attach("vm1/disk"), 0);
  EXPECT_EQ(server_.stop(), Ending{});
  start(share("b"));
  EXPECT_NE(
      server_.read_control("status").value_or("").find("warning: share \"a\" has 1 attachment and is not configured"),
      std::string::npos);
  EXPECT_EQ(server_.stop(), Ending{});
  start(share("a"));
  EXPECT_TRUE(server_.wait_for_state("a", "mounted"));
}

TEST_F(State, SecondBerthWithTheSameRecordsIsRefused) {
  start(share("a"));
  BerthServer other;
  // The same path in a mount namespace of its own: the namespace is another, its records would be the same.
  const std::string command = "umount -l " + server_.namespace_path() + " && exec " + std::getenv("BERTH") +
                              " serve --namespace " + server_.namespace_path() + " --state-dir " +
                              server_.path("state") + " --share x=" + source_;
  const std::string log = server_.path("second.log");
  const int status = ::system(("unshare --mount sh -c '" + command + "' >" + log + " 2>&1").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 69);
  EXPECT_NE(server_.read_file("second.log").value_or("").find("another berth uses"), std::string::npos);
}

TEST_F(State, WithQuickSharesAloneAttachmentsEndWithBerthAndTheLogSaysSo) {
  const std::vector<std::string> arguments{"serve", "--namespace", server_.namespace_path(), "--share", "a=" + source_};
  ASSERT_TRUE(ok(server_.start_program(arguments)));
  EXPECT_NE(server_.log().find("attachments are kept in memory alone"), std::string::npos);
  ASSERT_EQ(attach("vm1/disk"), 0);
  server_.kill_all();
  ASSERT_TRUE(ok(server_.start_program(arguments)));
  EXPECT_FALSE(is_attached("vm1"));
  EXPECT_FALSE(fs::exists(server_.path("state")));
}

TEST_F(State, WithQuickSharesAloneAttachmentsOutliveTheServer) {
  ASSERT_TRUE(ok(server_.start_program({"serve", "--namespace", server_.namespace_path(), "--share", "a=" + source_})));
  for (int life = 0; life < 3; ++life) {
    const std::string name = "vm1/disk" + std::to_string(life);
    ASSERT_EQ(attach(name), 0);
    ASSERT_NO_FATAL_FAILURE(server_.kill_server());
    EXPECT_TRUE(is_attached(name));
    EXPECT_EQ(users(), static_cast<std::uint64_t>(life + 1));
  }
  EXPECT_EQ(detach("vm1/disk0"), 0);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(State, ManyAttachmentsComeBack) {
  constexpr int kMany = 2000;
  start(share("a"));
  for (int i = 0; i < kMany; ++i) ASSERT_EQ(attach("vm/" + std::to_string(i)), 0);
  server_.kill_all();
  start(share("a"));
  ASSERT_TRUE(server_.wait_for_state("a", "mounted"));
  EXPECT_TRUE(eventually([&] { return users() == static_cast<std::uint64_t>(kMany); }));
}

}  // namespace
}  // namespace berth::test
