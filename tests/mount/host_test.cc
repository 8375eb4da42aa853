// Drain and resume with the whole daemon and its command line.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

class HostDrain : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = server_.make_directory("source");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
    start();
  }
  void start() {
    // Through berth: a caller that goes straight into the overmount asks nothing.
    const auto share = [this](const std::string& name) {
      return "[share." + name + "]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ + "\"\n";
    };
    ASSERT_TRUE(ok(server_.start(share("a") + share("b"))));
  }
  /// Runs `berth ARGUMENTS --namespace ...`: its exit status; what it said is in said().
  int berth(const std::string& arguments) const {
    const std::string command = std::string(std::getenv("BERTH")) + " " + arguments + " --namespace " +
                                server_.namespace_path() + " >" + server_.path("said") + " 2>&1";
    return WEXITSTATUS(::system(command.c_str()));
  }
  [[nodiscard]] std::string said() const { return server_.read_file("said").value_or(""); }
  [[nodiscard]] int open_error(const std::string& name) const {
    const UniqueFd file(::open(server_.in_namespace(name).c_str(), O_RDONLY | O_CLOEXEC));
    return file ? 0 : errno;
  }
  [[nodiscard]] std::uint64_t generation() const {
    return server_.read_json("status.json")["host"].value("generation", std::uint64_t{99});
  }
  [[nodiscard]] std::string host() const { return server_.read_json("status.json")["host"].value("state", ""); }

  BerthServer server_;
  std::string source_;
};

TEST_F(HostDrain, IdleSharesGoNobodyGetsInAndResumeGivesThemOutAgain) {
  ASSERT_EQ(open_error("a/hello"), 0);
  EXPECT_EQ(berth("drain"), 0) << said();
  EXPECT_EQ(said(), "");
  EXPECT_EQ(server_.state("a"), "idle");
  EXPECT_EQ(host(), "drained");
  EXPECT_EQ(open_error("a/hello"), ESHUTDOWN);
  EXPECT_EQ(berth("mount b"), 1);
  EXPECT_NE(said().find("the host is drained; `berth resume`"), std::string::npos) << said();
  EXPECT_EQ(berth("drain"), 0);
  EXPECT_NE(said().find("warning: the host is drained already"), std::string::npos) << said();
  EXPECT_EQ(berth("resume"), 0) << said();
  EXPECT_EQ(open_error("a/hello"), 0);
  EXPECT_EQ(generation(), 1U);
}

TEST_F(HostDrain, WhoIsInsideGoesOnAndTheTimeoutSaysWhoThatIs) {
  const UniqueFd held(::open(server_.in_namespace("a/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(held);
  EXPECT_EQ(berth("drain --timeout 100ms"), 1);
  EXPECT_NE(said().find("after 100ms, still in use: a (1 user); the host stays draining"), std::string::npos) << said();
  char byte = 0;
  EXPECT_EQ(::pread(held.get(), &byte, 1, 0), 1);
  EXPECT_EQ(server_.state("a"), "draining");
  EXPECT_EQ(open_error("a/hello"), ESHUTDOWN) << "not even where it is mounted";
  EXPECT_EQ(berth("resume"), 0);
  EXPECT_EQ(server_.state("a"), "mounted");
  EXPECT_EQ(server_.read_json("shares/a/status.json").value("mounts", 0), 1) << "it was there all the time";
  EXPECT_EQ(open_error("a/hello"), 0);
}

TEST_F(HostDrain, DrainReturnsWhenTheLastUserHasGone) {
  ASSERT_EQ(berth("attach a vm disk"), 0);
  UniqueFd held(::open(server_.in_namespace("b/hello").c_str(), O_RDONLY | O_CLOEXEC));
  const pid_t drainer = ::fork();
  if (drainer == 0) {
    held.reset();
    ::_exit(berth("drain --timeout 25s"));
  }
  ASSERT_TRUE(eventually([&] { return host() == "draining"; }));
  held.reset();
  ASSERT_TRUE(server_.wait_for_state("b", "idle"));
  EXPECT_EQ(::waitpid(drainer, nullptr, WNOHANG), 0) << "an attachment is a use";
  ASSERT_EQ(::rmdir(server_.in_namespace(".berth/shares/a/attachments/vm/disk").c_str()), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(drainer, &status, 0), drainer);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(host(), "drained");
}

TEST_F(HostDrain, ResumeEndsADrainThatWaits) {
  UniqueFd held(::open(server_.in_namespace("b/hello").c_str(), O_RDONLY | O_CLOEXEC));
  const pid_t drainer = ::fork();
  if (drainer == 0) {
    held.reset();
    ::_exit(berth("drain --timeout 25s"));
  }
  ASSERT_TRUE(eventually([&] { return host() == "draining"; }));
  EXPECT_EQ(berth("resume"), 0) << said();
  int status = 0;
  ASSERT_EQ(::waitpid(drainer, &status, 0), drainer);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_EQ(host(), "up");
}

TEST_F(HostDrain, RestartOfEverythingIsANewGenerationAndKeepsDrained) {
  EXPECT_EQ(generation(), 0U);
  EXPECT_EQ(server_.stop(), Ending{});
  start();
  EXPECT_EQ(generation(), 1U);
  server_.kill_all();
  start();
  EXPECT_EQ(generation(), 2U);
  ASSERT_EQ(berth("attach a vm disk"), 0);
  EXPECT_EQ(berth("drain --timeout 50ms"), 1);
  server_.kill_all();
  start();
  EXPECT_EQ(host(), "drained");
  EXPECT_NE(server_.log().find("the host is drained: no share is given out"), std::string::npos);
  EXPECT_EQ(open_error("a/hello"), ESHUTDOWN);
  EXPECT_EQ(berth("resume"), 0);
  EXPECT_EQ(generation(), 3U);
  EXPECT_TRUE(server_.wait_for_state("a", "mounted")) << "what is attached comes back with the resume";
}

TEST_F(HostDrain, SuccessorOfACrashedServerGoesOnInTheSameGenerationAndMountsNothingAgain) {
  ASSERT_EQ(berth("attach a vm disk"), 0);
  ASSERT_NO_FATAL_FAILURE(server_.kill_server());
  EXPECT_EQ(generation(), 0U);
  EXPECT_EQ(host(), "up");
  EXPECT_TRUE(server_.wait_for_state("a", "mounted"));
  EXPECT_EQ(::access(server_.in_namespace(".berth/shares/a/attachments/vm/disk").c_str(), F_OK), 0);
  EXPECT_EQ(berth("drain --timeout 50ms"), 1);
  ASSERT_NO_FATAL_FAILURE(server_.kill_server());
  EXPECT_NE(host(), "up");
  EXPECT_EQ(berth("resume"), 0);
  EXPECT_EQ(generation(), 1U);
}

}  // namespace
}  // namespace berth::test
