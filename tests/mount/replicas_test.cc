// A read-only share whose server stops answering, and another server with the same files.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/mount/berth_fixture.h"
#include "tests/mount/text_of.h"

namespace berth::test {
namespace {

/// What stands for the port of a server; it accepts connections.
UniqueFd listen_at(const char* address, std::uint16_t& port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  ::inet_pton(AF_INET, address, &at.sin_addr);
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0) << errno_name(errno);
  EXPECT_EQ(::listen(socket.get(), 64), 0);
  socklen_t size = sizeof at;
  EXPECT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
  port = ntohs(at.sin_port);
  return socket;
}

class Replicas : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access("/usr/bin/sshfs", X_OK) != 0 || ::access("/usr/lib/openssh/sftp-server", X_OK) != 0) {
      GTEST_SKIP() << "takes sshfs and sftp-server";
    }
    first_port_ = listen_at("127.0.0.1", port_);
    second_port_ = listen_at("127.0.0.2", port_);
    // sshfs takes it for ssh.
    ASSERT_TRUE(ok(server_.write_file("pipe",
                                      "#!/bin/sh\nSIDE=$(echo \"$*\" | grep -o '127\\.0\\.0\\.[12]' | head -1)\n"
                                      "export SIDE\nexec /usr/lib/openssh/sftp-server\n")));
    ASSERT_EQ(::chmod(server_.path("pipe").c_str(), 0755), 0);
    files_ = server_.make_directory("files");
    ASSERT_TRUE(ok(server_.write_file("files/file", "the same")));
    // Not so lately that its time in seconds may not tell it from another one.
    const timespec hour_ago{::time(nullptr) - 3600, 0};
    const timespec times[2]{hour_ago, hour_ago};
    ASSERT_EQ(::utimensat(AT_FDCWD, server_.path("files/file").c_str(), times, 0), 0) << errno_name(errno);
  }
  void TearDown() override { signal_side("127.0.0.1", SIGCONT); }
  void start(const std::string& more) {
    ASSERT_TRUE(ok(server_.start("[share.r]\ntype = \"fuse.sshfs\"\nsource = [\"root@127.0.0.1:" + files_ +
                                 "\", { source = \"root@127.0.0.2:" + files_ + "\", weight = 1000000 }]\n" +
                                 "stall_timeout = \"500ms\"\nattr_timeout = \"0\"\n" +
                                 "options = \"allow_other,cache=no,direct_io,attr_timeout=0,entry_timeout=0,port=" +
                                 std::to_string(port_) + ",ssh_command=" + server_.path("pipe") + "\"\n" + more)));
  }
  /// A reader waits while the first server is stopped, and is answered by that one.
  void expect_to_wait(const UniqueFd& file) const {
    ASSERT_GE(signal_side("127.0.0.1", SIGSTOP), 1U);
    std::string text(8, '\0');
    std::thread reader([&] { EXPECT_EQ(::pread(file.get(), text.data(), text.size(), 0), 8) << errno_name(errno); });
    EXPECT_TRUE(server_.wait_for_state("r", "stalled"));
    signal_side("127.0.0.1", SIGCONT);
    reader.join();
    EXPECT_EQ(text, "the same");
    EXPECT_TRUE(server_.wait_for_state("r", "mounted"));
    EXPECT_EQ(source(), "root@127.0.0.1:" + files_);
  }
  std::size_t signal_side(const std::string& side, int signal) const {
    std::size_t count = 0;
    for (const pid_t pid : server_.processes()) {
      const std::string process = "/proc/" + std::to_string(pid);
      const bool is_it = text_of(process + "/environ").find("SIDE=" + side + '\0') != std::string::npos &&
                         text_of(process + "/cmdline").find("sftp-server") != std::string::npos;
      if (is_it && ::kill(pid, signal) == 0) ++count;
    }
    return count;
  }
  [[nodiscard]] std::string source() const { return server_.read_json("shares/r/status.json").value("source", ""); }

  std::uint16_t port_ = 0;
  UniqueFd first_port_, second_port_;
  std::string files_;
  BerthServer server_;
};

TEST_F(Replicas, ReadOnlyShareThatStallsMovesToAnotherServer) {
  start("read_only = true\n");
  const UniqueFd file(::open(server_.in_namespace("r/file").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  EXPECT_EQ(source(), "root@127.0.0.1:" + files_) << "the other one has a weight";
  ASSERT_GE(signal_side("127.0.0.1", SIGSTOP), 1U);
  std::string text(8, '\0');
  EXPECT_EQ(::pread(file.get(), text.data(), text.size(), 0), 8) << errno_name(errno);
  EXPECT_EQ(text, "the same");
  EXPECT_EQ(source(), "root@127.0.0.2:" + files_);
  EXPECT_EQ(server_.state("r"), "mounted");
  EXPECT_EQ(server_.read_file("namespace/r/file").value_or("none"), "the same");
  const std::string events = server_.read_control("events").value_or("");
  EXPECT_NE(events.find(" passed-over share=r reason=\"\\\"root@127.0.0.1:"), std::string::npos) << events;
  EXPECT_NE(events.find("it has stopped answering"), std::string::npos) << events;
  EXPECT_NE(server_.read_control("status").value_or("").find("127.0.0.2"), std::string::npos);
}

TEST_F(Replicas, ShareThatIsWrittenToWaitsForItsServer) {
  start("");
  const UniqueFd file(::open(server_.in_namespace("r/file").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  expect_to_wait(file);
}

TEST_F(Replicas, ReadOnlyShareStaysWhereNoOtherServerAnswers) {
  start("read_only = true\n");
  const UniqueFd file(::open(server_.in_namespace("r/file").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  second_port_.reset();
  expect_to_wait(file);
}

}  // namespace
}  // namespace berth::test
