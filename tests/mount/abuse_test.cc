// What a hostile or unlucky tester found.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

constexpr const char* kSftpServer = "/usr/lib/openssh/sftp-server";

std::string content_of(const char* path) {
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  std::string content(100, '\0');
  const ssize_t count = fd ? ::read(fd.get(), content.data(), content.size()) : -1;
  content.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return content;
}

/// A share "s" by sshfs, whose inode numbers are made up in the order of look-ups; it needs no sshd.
class Sshfs : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access(kSftpServer, X_OK) != 0) GTEST_SKIP() << "no " << kSftpServer;
    for (const char* name : {"one", "two"}) {
      server_.make_directory(std::string("source/") + name);
      ASSERT_TRUE(ok(server_.write_file(std::string("source/") + name + "/file", name)));
    }
    ASSERT_TRUE(ok(server_.write_file("ssh", std::string("#!/bin/sh\nexec ") + kSftpServer + "\n")));
    ASSERT_EQ(::chmod(server_.path("ssh").c_str(), 0755), 0);
    ASSERT_TRUE(ok(
        server_.start("[share.s]\ntype = \"fuse.sshfs\"\nattr_timeout = \"0\"\nsource = \"x:" + server_.path("source") +
                      "\"\noptions = \"ssh_command=" + server_.path("ssh") + "\"\n")));
  }
  void unmount() {
    // Busy until the kernel has released the last file.
    ASSERT_TRUE(eventually([&] { return server_.write_control("shares/s/control", "unmount").has_value(); }));
    ASSERT_TRUE(server_.wait_for_state("s", "idle"));
  }
  /// 0, unless it is a process of the server.
  pid_t helper() {
    const pid_t pid = server_.read_json("shares/s/status.json").value("helper_pid", 0);
    const std::vector<pid_t> processes = server_.processes();
    return std::find(processes.begin(), processes.end(), pid) == processes.end() ? 0 : pid;
  }

  BerthServer server_;
};

TEST_F(Sshfs, WorkingDirectoryIsNotTakenForAnotherOneOfTheNextMount) {
  struct stat attributes {};
  ASSERT_EQ(::chdir(server_.in_namespace("s/one").c_str()), 0);
  ASSERT_EQ(content_of("file"), "one");
  unmount();
  // Now the other one gets the number that this one had.
  ASSERT_EQ(::stat(server_.in_namespace("s/two").c_str(), &attributes), 0);
  EXPECT_EQ(content_of("file"), "one");
  EXPECT_EQ(::unlink("file"), 0);
  EXPECT_EQ(server_.read_file("source/two/file").value_or(""), "two");
  EXPECT_EQ(::access(server_.path("source/one/file").c_str(), F_OK), -1);
  ASSERT_EQ(::chdir("/"), 0);
}

TEST_F(Sshfs, FileThatIsOpenInALostMountIsReadAfreshByOthers) {
  const std::string path = server_.in_namespace("s/one/file");
  const UniqueFd held(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(held);
  const pid_t killed = helper();
  ASSERT_GT(killed, 0) << "the status tells a number that the host knows";
  ASSERT_EQ(::kill(killed, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return content_of(path.c_str()) == "one" && helper() != killed; }));
  EXPECT_EQ(content_of(path.c_str()), "one");
}

TEST(Helper, MakesFilesThatOthersMayNotWrite) {
  BerthServer server;
  const std::string made = server.path("made");
  ASSERT_TRUE(ok(server.start("[share.a]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"echo x > " + made +
                              "\", \"{mountpoint}\"]\n")));
  EXPECT_EQ(::access(server.in_namespace("a/x").c_str(), F_OK), -1);
  struct stat attributes {};
  ASSERT_EQ(::stat(made.c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0644U);
}

}  // namespace
}  // namespace berth::test
