// Sources that an automounter mounts when they are walked to: autofs(5), on the host, which here is the test's mount
// namespace.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "src/lib/sys/mount_table.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

/// Debian's automount, with an indirect map of one key and a direct map of one mountpoint.
class Automount : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access("/usr/sbin/automount", X_OK) != 0) GTEST_SKIP() << "needs automount (Debian: autofs)";
    if (::access("/dev/autofs", F_OK) != 0) GTEST_SKIP() << "needs /dev/autofs";
    for (const char* name : {"real", "real/sub", "indirect", "direct"}) server_.make_directory(name);
    ASSERT_TRUE(ok(server_.write_file("real/there", "hello")));
    ASSERT_TRUE(ok(server_.write_file("real/sub/there", "hello")));
    ASSERT_TRUE(ok(server_.write_file(
        "master", server_.path("indirect") + " " + server_.path("map") + "\n/- " + server_.path("direct.map") + "\n")));
    ASSERT_TRUE(ok(server_.write_file("map", "key -fstype=bind :" + server_.path("real") + "\n")));
    ASSERT_TRUE(
        ok(server_.write_file("direct.map", server_.path("direct") + " -fstype=bind :" + server_.path("real") + "\n")));
    automount_ = ::fork();
    if (automount_ == 0) {
      // Processes of its group see through it.
      ::setsid();
      const UniqueFd log(::open(server_.path("automount.log").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0644));
      ::dup2(log.get(), STDOUT_FILENO);
      ::dup2(log.get(), STDERR_FILENO);
      ::execl("/usr/sbin/automount", "automount", "-f", "-C", "-t", "3600", "-p", server_.path("automount.pid").c_str(),
              server_.path("master").c_str(), nullptr);
      ::_exit(127);
    }
    ASSERT_TRUE(eventually([&] { return is_autofs("indirect") && is_autofs("direct"); }))
        << server_.read_file("automount.log").value_or("");
  }
  void TearDown() override {
    if (automount_ <= 0) return;
    (void)server_.stop();
    ::kill(automount_, SIGTERM);
    const bool ended = eventually([&] { return ::waitpid(automount_, nullptr, WNOHANG) == automount_; });
    if (!ended) {  // it does not always end when it is asked to
      ::kill(automount_, SIGKILL);
      ::waitpid(automount_, nullptr, 0);
    }
    for (const char* name : {"indirect", "direct"}) {
      while (::umount2(server_.path(name).c_str(), MNT_DETACH) == 0) {
      }
    }
  }
  [[nodiscard]] bool is_autofs(const std::string& name) const {
    const auto table = sys::read_mount_table();
    return table && std::any_of(table->begin(), table->end(), [&](const sys::MountEntry& entry) {
             return entry.target == server_.path(name) && entry.type == "autofs";
           });
  }
  [[nodiscard]] std::string share(const std::string& name, const std::string& lines, const std::string& source) const {
    return "[share." + name + "]\n" + lines + "source = \"" + server_.path(source) + "\"\n";
  }

  BerthServer server_;
  pid_t automount_ = -1;
};

TEST_F(Automount, SourcesAreMountedByItWhenASharesFirstAccessWalksThere) {
  std::string config;
  std::vector<std::string> shares;
  for (const std::string place : {"indirect/key", "indirect/key/sub", "direct", "direct/sub"}) {
    for (const std::string lines :
         {"type = \"bind\"\naccess = \"proxy\"\n", "type = \"bind\"\naccess = \"native\"\n",
          "type = \"bind\"\noptions = \"rbind\"\n", "type = \"dir\"\n", "type = \"dir\"\nread_only = true\n"}) {
      shares.push_back("s" + std::to_string(shares.size()));
      config += share(shares.back(), lines, place);
    }
    shares.push_back("s" + std::to_string(shares.size()));
    config += "[share." + shares.back() + "]\ntype = \"overlay\"\noptions = \"lowerdir=" + server_.path(place) + ":" +
              server_.make_directory("lower") + "\"\n";
  }
  ASSERT_TRUE(ok(server_.start(config)));
  for (const std::string& name : shares) {
    EXPECT_EQ(server_.read_file("namespace/" + name + "/there").value_or(""), "hello")
        << name << "\n"
        << server_.read_control("shares/" + name + "/error").value_or("");
  }
  // What the automounter takes off and mounts again is no replaced source.
  ASSERT_EQ(::umount2(server_.path("indirect/key").c_str(), MNT_DETACH), 0) << errno_name(errno);
  for (const std::string& name : shares) {
    EXPECT_EQ(server_.read_file("namespace/" + name + "/there").value_or(""), "hello") << name;
  }
}

TEST_F(Automount, KeyThatThereIsNotIsAnError) {
  ASSERT_TRUE(ok(server_.start(share("a", "type = \"bind\"\n", "indirect/none"))));
  EXPECT_FALSE(ok(server_.read_file("namespace/a/there")));
  EXPECT_EQ(server_.state("a"), "failed");
  EXPECT_NE(server_.read_control("shares/a/error").value_or("").find("indirect/none"), std::string::npos);
}

}  // namespace
}  // namespace berth::test
